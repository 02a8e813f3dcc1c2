"""MovieLens: ``ratings.dat`` and ``movies.dat`` with ``::`` between fields, or ``ratings.csv`` and ``movies.csv``."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from datamodules.sources.base import Problems, Tables
from datamodules.sources.catalogue import Row, catalogue_frame, item_row
from datamodules.sources.csv_table import check_values, csv_records, read_csv
from datamodules.sources.files import data_folder, find, find_one
from datamodules.sources.streams import read_whole
from dig.config import UserError
from dig.config.schema import DataConfig

__all__ = ["files", "read"]

_COLUMNS = {"user_id": "userId", "item_id": "movieId", "timestamp": "timestamp", "rating": "rating"}
_NO_GENRES = "(no genres listed)"


def files(config: DataConfig) -> dict[str, Path]:
    """Ratings and movies, both ``.dat`` or both ``.csv``.

    Raises:
        UserError: if one is missing.
    """
    folder = data_folder(config)
    suffix = ".dat" if find(folder, ["ratings.dat"]) else ".csv"
    return {table: find_one(folder, f"file of {table}", [f"{table}{suffix}"]) for table in ("ratings", "movies")}


def read(found: dict[str, Path], config: DataConfig) -> Tables:
    """Reads ratings and movies."""
    of_ratings, of_movies = Problems(found["ratings"]), Problems(found["movies"])
    if ".dat" in found["ratings"].suffixes:
        ratings, movies = _dat_ratings(found["ratings"], of_ratings), _dat_movies(found["movies"], of_movies)
    else:
        ratings, movies = read_csv(found["ratings"], _COLUMNS, of_ratings), _csv_movies(found["movies"], of_movies)
    return Tables(ratings, catalogue_frame(movies), [of_ratings, of_movies])


def _dat_ratings(path: Path, problems: Problems) -> pl.DataFrame:
    """``user::movie::rating::seconds``; ids hold no colon, so a line has exactly seven separators' halves."""
    content = read_whole(path).rstrip(b"\n")
    if not content:
        raise UserError(f"{path}: the file is empty")
    lines = pl.read_csv(io.BytesIO(content), has_header=False, separator="\n", quote_char=None, infer_schema=False,
                        new_columns=["line"], encoding="utf8-lossy")["line"].str.strip_suffix("\r")  # fmt: skip
    fields = lines.str.split("::")
    whole = fields.list.len() == len(_COLUMNS)
    problems.total += len(lines)
    for row in (~whole).arg_true():
        problems.add(row + 1, f"{len(fields[row])} fields instead of {len(_COLUMNS)}")
    columns = ("user_id", "item_id", "rating", "timestamp")
    frame = pl.DataFrame({name: fields.filter(whole).list.get(place) for place, name in enumerate(columns)})
    return check_values(frame, (whole.arg_true() + 1).to_list(), problems)


def _dat_movies(path: Path, problems: Problems) -> list[Row]:
    rows = []
    for number, line in enumerate(read_whole(path).decode("latin-1").splitlines(), start=1):
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


def _csv_movies(path: Path, problems: Problems) -> list[Row]:
    rows = []
    for line, record in csv_records(path, ("movieId", "title", "genres"), problems):
        if record["movieId"]:
            rows.append(_movie(record["movieId"], record["title"], record["genres"]))
        else:
            problems.add(line, "movieId is empty")
    return rows


def _movie(movie: str, title: str, genres: str) -> Row:
    names = [] if genres.strip() == _NO_GENRES else genres.strip().split("|")
    return item_row(movie, title=title, categories=names)
