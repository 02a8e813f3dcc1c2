"""MovieLens: ``ratings.dat`` and ``movies.dat`` with ``::`` between fields, or ``ratings.csv`` and ``movies.csv``."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from datamodules.sources import movielens100k
from datamodules.sources.base import Problems, Tables
from datamodules.sources.catalogue import Row, item_row
from datamodules.sources.csv_table import csv_records, read_csv
from datamodules.sources.files import data_folder, find, find_one
from datamodules.sources.lines import not_utf8
from datamodules.sources.plain import read_plain
from datamodules.sources.streams import count_records, read_whole
from dig.config.schema import DataConfig

__all__ = ["files", "read"]

_COLUMNS = {"user_id": "userId", "item_id": "movieId", "timestamp": "timestamp", "rating": "rating"}
_NO_GENRES = "(no genres listed)"


def files(config: DataConfig) -> dict[str, Path]:
    """Ratings and movies, both ``.dat`` or both ``.csv``, or the files of MovieLens 100K.

    Raises:
        UserError: if one is missing.
    """
    folder = data_folder(config)
    if find(folder, ["u.data"]):
        return movielens100k.files(folder)
    suffix = ".dat" if find(folder, ["ratings.dat"]) else ".csv"
    return {table: find_one(folder, f"file of {table}", [f"{table}{suffix}"]) for table in ("ratings", "movies")}


def read(found: dict[str, Path], config: DataConfig) -> Tables:
    """Reads ratings and movies."""
    if found["ratings"].name.startswith("u.data"):
        return movielens100k.read(found, config.encoding)
    of_ratings, of_movies = Problems(found["ratings"]), Problems(found["movies"])
    if ".dat" in found["ratings"].suffixes:
        ratings = _dat_ratings(found["ratings"], of_ratings, config.encoding)
        movies = _dat_movies(found["movies"], of_movies, config.encoding)
    else:
        ratings = read_csv(found["ratings"], _COLUMNS, of_ratings, encoding=config.encoding)
        movies = _csv_movies(found["movies"], of_movies, config.encoding)
    return Tables(ratings, movielens100k.once(movies, of_movies), [of_ratings, of_movies])


def _dat_ratings(path: Path, problems: Problems, encoding: str) -> pl.DataFrame:
    """``user::movie::rating::seconds``; ids hold no colon, so a line has exactly seven separators' halves."""
    return read_plain(path, "::", ("user_id", "item_id", "rating", "timestamp"), problems, encoding)


def _dat_movies(path: Path, problems: Problems, encoding: str) -> list[Row]:
    """ML-10M's file is UTF-8, ML-1M's is Latin-1."""
    content = read_whole(path, encoding)
    rows = []
    problems.in_file += count_records(content)
    for number, raw in enumerate(content.split(b"\n"), start=1):
        line = movielens100k.text_of_line(raw).removesuffix("\r")
        if not line.strip():
            continue
        problems.total += 1
        movie, _, rest = line.partition("::")
        title, separator, genres = rest.rpartition("::")
        if not separator or not movie:
            problems.add(number, "no movie::title::genres")
        else:
            rows.append(_movie(movie, title, genres))
    return rows


def _csv_movies(path: Path, problems: Problems, encoding: str) -> list[Row]:
    rows = []
    for line, record in csv_records(path, ("movieId", "title", "genres"), problems, encoding):
        if not_utf8(record["title"]):
            problems.note_broken_text()
        if record["movieId"]:
            rows.append(_movie(record["movieId"], record["title"], record["genres"]))
        else:
            problems.add(line, "movieId is empty")
    return rows


def _movie(movie: str, title: str, genres: str) -> Row:
    names = [] if genres.strip() == _NO_GENRES else genres.strip().split("|")
    return item_row(movie, title=title, categories=names)
