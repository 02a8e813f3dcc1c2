"""Amazon's ratings without reviews: ``ratings_Beauty.csv`` (user, item; 2014) and ``Beauty.csv`` (item, user; 2018).

Neither has a header. Which column is the item is told by what stands there: an ASIN is ten signs, an ISBN or one that
begins with B, and a reviewer's id is longer and begins with A. Copies with a header are read by its names.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from datamodules.sources.base import CATALOGUE_SCHEMA, Problems
from datamodules.sources.csv_table import read_csv
from datamodules.sources.files import COMPRESSIONS
from datamodules.sources.plain import first_fields, read_plain
from dig.config import UserError

__all__ = ["bare_catalogue", "item_column", "ratings_files", "read_ratings_only", "release_of"]

_ASIN = re.compile(r"B[0-9A-Z]{9}|[0-9]{9}[0-9X]")
_FIELDS = 4
_NAMES = {
    "user_id": ("userid", "user", "reviewerid"),
    "item_id": ("parentasin", "asin", "productid", "itemid", "item"),
    "rating": ("rating", "overall", "stars"),
    "timestamp": ("timestamp", "time", "unixreviewtime"),
}


def item_column(path: Path) -> int | None:
    """Where the item stands in a file of ratings, 0 or 1; None for any other file."""
    rows = [row for row in first_fields(path, ",") if len(row) == _FIELDS]
    if rows and _header(rows[0]):
        names = list(_header(rows[0]))
        return names.index("item_id") if set(names[:2]) == {"user_id", "item_id"} else None
    if not rows or not all(_is_number(field) for field in rows[0][2:]):
        return None
    counts = [sum(_ASIN.fullmatch(row[place].strip('" ')) is not None for row in rows) for place in (0, 1)]
    return None if counts[0] == counts[1] else int(counts[1] > counts[0])


def ratings_files(folder: Path, category: str | None, pattern: str) -> list[Path]:
    """The files of ratings in a folder, by a pattern such as ``ratings_{}.csv``, of a category or of any."""
    names = [f"{pattern.format(category or '*')}{packed}" for packed in COMPRESSIONS]
    found = sorted(path for name in names for path in folder.glob(name) if path.is_file())
    return [path for path in found if item_column(path) is not None]


def release_of(path: Path) -> str:
    """The release whose order and header a file of ratings has."""
    if "parent_asin" in first_fields(path, ",", 1)[0]:
        return "amazon2023"
    return "amazon2014" if item_column(path) else "amazon2018"


def read_ratings_only(path: Path, problems: Problems, encoding: str) -> pl.DataFrame:
    """Reads user_id, item_id, timestamp (seconds) and rating.

    Raises:
        UserError: if it is damaged, or if it cannot be told which column is the item.
    """
    place = item_column(path)
    if place is None:
        raise UserError(
            f"{path}: which of the first two columns is the item cannot be told; a line must be "
            "user,item,rating,timestamp (2014) or item,user,rating,timestamp (2018)"
        )
    header = _header(first_fields(path, ",", 1)[0])
    if header:
        return read_csv(path, header, problems, encoding=encoding)
    columns = ("item_id", "user_id") if place == 0 else ("user_id", "item_id")
    return read_plain(path, ",", (*columns, "rating", "timestamp"), problems, encoding)


def bare_catalogue(interactions: pl.DataFrame, problems: Problems) -> pl.DataFrame:
    """A catalogue of nothing but the ids that were rated, for ratings without metadata beside them."""
    ids = interactions["item_id"].unique(maintain_order=True)
    problems.note("item without any text, since no metadata lie beside the ratings", len(ids))
    return pl.DataFrame({"item_id": ids}).with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in CATALOGUE_SCHEMA.items() if name != "item_id"
    )


def _header(fields: list[str]) -> dict[str, str]:
    """Our name → the header's, in its order; {} where the line is a row."""
    names = {}
    for field in fields:
        plain = re.sub(r"[\W_]", "", field.lower())
        ours = next((ours for ours, known in _NAMES.items() if plain in known), None)
        if ours:
            names[ours] = field.strip('" ')
    return names if len(names) == _FIELDS else {}


def _is_number(text: str) -> bool:
    try:
        float(text.strip('" '))
    except ValueError:
        return False
    return True
