"""Interactions from JSON lines: whole blocks by polars, and any block with something odd in it line by line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from datamodules.sources.base import Problems
from datamodules.sources.streams import Block, blocks

__all__ = ["ReviewFields", "json_lines", "not_utf8", "read_reviews"]

_SCHEMA = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Float64, "rating": pl.Float64}


@dataclass(frozen=True)
class ReviewFields:
    """What a publisher calls the fields of a review.

    Attributes:
        user: user id.
        item: item id.
        time: moment of the review.
        rating: stars.
        per_second: units of ``time`` in a second.
    """

    user: str
    item: str
    time: str
    rating: str
    per_second: int = 1


def read_reviews(path: Path, fields: ReviewFields, problems: Problems) -> pl.DataFrame:
    """Reads user_id, item_id, timestamp (seconds) and rating of every review, in file order.

    A review without one of them, with an empty id, an id that is not UTF-8, or a negative time is a bad row.

    Raises:
        UserError: if the file is damaged or cut off.
    """
    frames = [pl.DataFrame(schema=_SCHEMA)]
    for block in blocks(path):
        frame = _whole(block, fields)
        if frame is None:
            frame = _line_by_line(block, fields, problems)
        else:
            problems.total += len(frame)
        frames.append(frame)
    return pl.concat(frames).with_columns(pl.col("timestamp") / fields.per_second)


def _whole(block: Block, fields: ReviewFields) -> pl.DataFrame | None:
    """The block at once, or None if a line in it needs a closer look; polars is strict here and refuses what is odd."""
    names = (fields.user, fields.item, fields.time, fields.rating)
    schema = dict(zip(names, _SCHEMA.values(), strict=True))
    try:
        frame = pl.read_ndjson(block.data, schema=schema)
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        return None
    frame.columns = list(_SCHEMA)
    ids = pl.col("user_id", "item_id")
    odd = pl.any_horizontal(
        pl.all().is_null(),
        ids == "",
        ids.str.starts_with("["),  # polars makes text of a list or an object
        ids.str.starts_with("{"),
        pl.col("timestamp") < 0,
        ~pl.col("timestamp").is_finite(),
    )
    return None if frame.select(odd.any()).item() else frame


def _line_by_line(block: Block, fields: ReviewFields, problems: Problems) -> pl.DataFrame:
    rows = []
    for number, line in json_lines(block, problems):
        try:
            rows.append(_row(line, fields))
        except ValueError as error:
            problems.add(number, str(error))
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def json_lines(block: Block, problems: Problems) -> Iterator[tuple[int, Any]]:
    """Line numbers and parsed lines; what is no JSON is a bad row. Bytes that are not UTF-8 become lone surrogates."""
    for number, line in enumerate(block.data.split(b"\n"), start=block.first_line):
        if not line.strip():
            continue
        problems.total += 1
        try:
            yield number, json.loads(line.decode("utf-8", "surrogateescape"))
        except json.JSONDecodeError as error:
            problems.add(number, f"not JSON: {error.msg} at column {error.colno}")
        except (ValueError, RecursionError) as error:
            problems.add(number, f"not JSON: {error}")


def _row(record: Any, fields: ReviewFields) -> tuple[str, str, float, float]:
    if not isinstance(record, dict):
        raise ValueError(f"holds a {type(record).__name__}, not a review")
    time = _number(record, fields.time)
    if time < 0:
        raise ValueError(f"{fields.time} {time:g} is negative")
    return _id(record, fields.user), _id(record, fields.item), time, _number(record, fields.rating)


def _id(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None or value == "":
        raise ValueError(f"{name} is {'empty' if value == '' else 'missing' if name not in record else 'null'}")
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise ValueError(f"{name} must be text, it is a {type(value).__name__}")
    if not_utf8(str(value)):
        raise ValueError(f"{name} is not UTF-8")
    return str(value)


def _number(record: dict[str, Any], name: str) -> float:
    value = record.get(name)
    if value is None:
        raise ValueError(f"{name} is {'null' if name in record else 'missing'}")
    try:
        number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} {str(value)[:40]!r} is not a number")
    return number


def not_utf8(text: str) -> bool:
    """Whether a decoded text holds bytes that were none of UTF-8."""
    return any("\ud800" <= char <= "\udfff" for char in text)
