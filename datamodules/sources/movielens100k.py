"""MovieLens 100K: ``u.data`` (tabs, no header), ``u.item`` (bars, Latin-1, a flag a genre) and ``u.genre``."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from datamodules.sources.base import Problems, Tables
from datamodules.sources.catalogue import Row, catalogue_frame, item_row
from datamodules.sources.files import find, find_one
from datamodules.sources.plain import read_plain
from datamodules.sources.streams import count_records, read_whole

__all__ = ["files", "once", "read", "text_of_line"]

_COLUMNS = ("user_id", "item_id", "rating", "timestamp")
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


def files(folder: Path) -> dict[str, Path]:
    """The ratings, the movies, and the names of the genres where they are there.

    Raises:
        UserError: if one is missing.
    """
    found = {
        "ratings": find_one(folder, "file of ratings", ["u.data"]),
        "movies": find_one(folder, "file of movies", ["u.item"]),
    }
    return found | ({"genres": find_one(folder, "file of genres", ["u.genre"])} if find(folder, ["u.genre"]) else {})


def read(found: dict[str, Path], encoding: str) -> Tables:
    """Reads ratings and movies."""
    of_ratings, of_movies = Problems(found["ratings"]), Problems(found["movies"])
    ratings = read_plain(found["ratings"], "\t", _COLUMNS, of_ratings, encoding)
    genres = _genres(found["genres"], encoding) if "genres" in found else _GENRES
    movies = _movies(found["movies"], genres, of_movies, encoding)
    return Tables(ratings, once(movies, of_movies), [of_ratings, of_movies])


def once(movies: list[Row], problems: Problems) -> pl.DataFrame:
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
