"""Ratings in any spelling to numbers, and ids that two tables spell in two ways."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

__all__ = ["Ratings", "id_difference", "read_ratings"]

_ABSENT = ("", "na", "n/a", "nan", "null", "none", "-", "\\n", "<na>")
"""What programs write, in lower case, for a rating that nobody gave."""
_DECIMAL_COMMA = r"^([+-]?\d+),(\d{1,2})$"


@dataclass(frozen=True)
class Ratings:
    """A column of ratings.

    Attributes:
        values: (rows,) Float64; null where there is none.
        unreadable: rows whose rating is there and is not a number.
        notes: what was mended, with its count.
    """

    values: pl.Series
    unreadable: list[int] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)


def read_ratings(column: pl.Series) -> Ratings:
    """Numbers as they are, with a point or a comma; a word that says that there is none is noted."""
    if column.dtype.is_numeric():
        values = column.cast(pl.Float64)
        return Ratings(values.set(values.is_nan(), None), values.is_infinite().arg_true().to_list())
    text = column.cast(pl.String)
    values = _finite(text)
    if values.null_count() == text.null_count():
        return Ratings(values)
    text = text.str.strip_chars()
    comma = values.is_null() & text.str.contains(_DECIMAL_COMMA).fill_null(value=False)
    values = _finite(text.str.replace(_DECIMAL_COMMA, "$1.$2"))
    absent = text.str.to_lowercase().is_in(_ABSENT)
    said = absent & (text != "") & values.is_null()
    notes = {"rating with a decimal comma": comma.sum(), "rating that says that there is none": said.sum()}
    unreadable = values.is_null() & text.is_not_null() & ~absent
    return Ratings(
        values, unreadable.arg_true().to_list(), {text: int(count) for text, count in notes.items() if count}
    )


def id_difference(unknown: pl.Series, known: pl.Series) -> str | None:
    """How ids that the catalogue lacks are spelt there, if one change makes most of them known.

    Args:
        unknown: ids of interactions, each once.
        known: ids of the catalogue.
    """
    ways = {
        "a trailing '.0'": r"\.0+$",
        "leading zeros": r"^0+",
        "blanks": r"\s+",
        "upper and lower case": "",
    }
    for way, pattern in ways.items():
        ours, theirs = _without(unknown, pattern), _without(known, pattern)
        same = ours.is_in(theirs.implode())
        if same.sum() * 2 > len(unknown):
            place = int(same.arg_true()[0])
            other = known.filter(theirs == ours[place])[0]
            return f"ids differ by {way}: the interactions have {unknown[place]!r}, the items {other!r}"
    return None


def _without(ids: pl.Series, pattern: str) -> pl.Series:
    return ids.str.replace_all(pattern, "") if pattern else ids.str.to_lowercase()


def _finite(text: pl.Series) -> pl.Series:
    values = text.cast(pl.Float64, strict=False)
    if values.is_finite().all():  # but for nulls
        return values
    return values.set(~values.is_finite().fill_null(value=False), None)
