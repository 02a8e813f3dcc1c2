"""MovieLens: ``ratings.dat`` and ``movies.dat``, ``ratings.csv`` and ``movies.csv``, or the files of MovieLens 100K."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from datamodules.sources.base import Problems, Tables, data_folder, find, find_one
from datamodules.sources.catalogue import Row, catalogue_frame, item_row
from datamodules.sources.csv_table import csv_records, read_csv, read_plain
from datamodules.sources.lines import not_utf8
from datamodules.sources.streams import count_records, read_whole
from dig.config.schema import DataConfig

__all__ = ["_files_100k", "_once", "_read_100k", "text_of_line", "files", "read"]


_COLUMNS_100K = ("user_id", "item_id", "rating", "timestamp")
# What u.genre lists; it is read where it lies beside the others.
_GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_BEFORE_GENRES = 5  # id, title, two dates, address
_NO_GENRE = "unknown"


def _files_100k(folder: Path) -> dict[str, Path]:
    """The ratings, the movies, and the names of the genres where they are there.

    Raises:
        UserError: if one is missing.
    """
    files = {
        "ratings": find_one(folder, "file of ratings", ["u.data"]),
        "movies": find_one(folder, "file of movies", ["u.item"]),
    }
    return files | ({"genres": find_one(folder, "file of genres", ["u.genre"])} if find(folder, ["u.genre"]) else {})


def _read_100k(files: dict[str, Path], encoding: str) -> Tables:
    """Reads ratings and movies."""
    of_ratings, of_movies = Problems(files["ratings"]), Problems(files["movies"])
    ratings = read_plain(files["ratings"], "\t", _COLUMNS_100K, of_ratings, encoding)
    genres = _genres(files["genres"], encoding) if "genres" in files else _GENRES
    movies = _movies(files["movies"], genres, of_movies, encoding)
    return Tables(ratings, _once(movies, of_movies), [of_ratings, of_movies])


def _once(movies: list[Row], problems: Problems) -> pl.DataFrame:
    """The catalogue; of several records of one movie the first stays, which is noted."""
    everything = catalogue_frame(movies)
    catalogue = everything.unique("item_id", keep="first", maintain_order=True)
    problems.left_out = len(everything) - len(catalogue)
    if problems.left_out:
        problems.note("a movie repeated, the first record is kept", problems.left_out)
    problems.delivered = len(catalogue)
    return catalogue


def text_of_line(line: bytes) -> str:
    """UTF-8 where it is valid, else Windows' Latin-1: text of the latter with an accent is hardly ever valid UTF-8."""
    for encoding in ("utf-8", "cp1252"):
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1")


def _text(path: Path, encoding: str) -> str:
    """The publisher's files are Latin-1; what others made of them may be UTF-8."""
    return "\n".join(map(text_of_line, read_whole(path, encoding).split(b"\n")))


def _genres(path: Path, encoding: str) -> tuple[str, ...]:
    """The genres by their number; lines that are not ``name|number`` say none."""
    named = (line.strip().rpartition("|") for line in _text(path, encoding).split("\n"))
    numbered = {int(number): name for name, _, number in named if name and number.isdigit()}
    return tuple(numbered[number] for number in sorted(numbered))


def _movies(path: Path, genres: tuple[str, ...], problems: Problems, encoding: str) -> list[Row]:
    rows = []
    text = _text(path, encoding)
    problems.in_file += count_records(text.encode())
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        problems.total += 1
        fields = line.removesuffix("\r").split("|")
        flags = fields[_BEFORE_GENRES:]
        if len(flags) != len(genres):
            problems.add(number, f"{len(fields)} fields instead of {_BEFORE_GENRES + len(genres)}")
        elif set(flags) - {"0", "1"}:
            problems.add(number, "a genre's flag is neither 0 nor 1")
        elif not fields[0]:
            problems.add(number, "the movie's id is empty")
        else:
            names = [name for name, flag in zip(genres, flags, strict=True) if flag == "1" and name != _NO_GENRE]
            rows.append(item_row(fields[0], title=fields[1], categories=names))
    return rows


# MovieLens: ``ratings.dat`` and ``movies.dat`` with ``::`` between fields, or ``ratings.csv`` and ``movies.csv``.


_COLUMNS = {"user_id": "userId", "item_id": "movieId", "timestamp": "timestamp", "rating": "rating"}
_NO_GENRES = "(no genres listed)"


def files(config: DataConfig) -> dict[str, Path]:
    """Ratings and movies, both ``.dat`` or both ``.csv``, or the files of MovieLens 100K.

    Raises:
        UserError: if one is missing.
    """
    folder = data_folder(config)
    if find(folder, ["u.data"]):
        return _files_100k(folder)
    suffix = ".dat" if find(folder, ["ratings.dat"]) else ".csv"
    return {table: find_one(folder, f"file of {table}", [f"{table}{suffix}"]) for table in ("ratings", "movies")}


def read(files: dict[str, Path], config: DataConfig) -> Tables:
    """Reads ratings and movies."""
    if files["ratings"].name.startswith("u.data"):
        return _read_100k(files, config.encoding)
    of_ratings, of_movies = Problems(files["ratings"]), Problems(files["movies"])
    if ".dat" in files["ratings"].suffixes:
        ratings = _dat_ratings(files["ratings"], of_ratings, config.encoding)
        movies = _dat_movies(files["movies"], of_movies, config.encoding)
    else:
        ratings = read_csv(files["ratings"], _COLUMNS, of_ratings, encoding=config.encoding)
        movies = _csv_movies(files["movies"], of_movies, config.encoding)
    return Tables(ratings, _once(movies, of_movies), [of_ratings, of_movies])


def _dat_ratings(path: Path, problems: Problems, encoding: str) -> pl.DataFrame:
    """``user::movie::rating::seconds``; ids hold no colon, so a line has exactly seven separators' halves."""
    return read_plain(path, "::", ("user_id", "item_id", "rating", "timestamp"), problems, encoding)


def _dat_movies(path: Path, problems: Problems, encoding: str) -> list[Row]:
    """ML-10M's file is UTF-8, ML-1M's is Latin-1."""
    content = read_whole(path, encoding)
    rows = []
    problems.in_file += count_records(content)
    for number, raw in enumerate(content.split(b"\n"), start=1):
        line = text_of_line(raw).removesuffix("\r")
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
