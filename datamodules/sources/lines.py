"""Interactions from JSON lines: whole blocks by polars, and any block with something odd in it line by line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datamodules.sources.base import Problems
from datamodules.sources.streams import Block, blocks, count_records
from datamodules.sources.times import RawTimes, settle_times
from dig.config import UserError

__all__ = ["ReviewFields", "json_lines", "not_utf8", "read_reviews"]

_SCHEMA = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Float64, "rating": pl.Float64}
_EXACT = 2**53  # Float64 holds every whole number up to here
_ONE_A_LINE = "write each on a line of its own, for example by: jq -c '.[]' (or jq -c . where it is not a list)"
_SURROGATE = re.compile("[\ud800-\udfff]")


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


def read_reviews(path: Path, fields: ReviewFields, problems: Problems, encoding: str = "utf-8") -> pl.DataFrame:
    """Reads user_id, item_id, timestamp (seconds) and rating of every review, in file order.

    A review without one of them, with an empty id, an id that is not UTF-8, a negative time, or one that cannot stand
    beside the others (see :mod:`datamodules.sources.times`) is a bad row.

    Raises:
        UserError: if the file is damaged or cut off.
    """
    frames, whole = [pl.DataFrame(schema=_SCHEMA)], [pl.Series(dtype=pl.Int64)]
    lines: list[Sequence[int]] = []
    numbers: Sequence[int]
    for block in blocks(path, encoding):
        frame = _whole(block, fields)
        if frame is None or len(frame) != block.lines:
            frame, exact, numbers = _line_by_line(block, fields, problems)
            problems.in_file += count_records(block.data)
        else:
            exact = frame["timestamp"].cast(pl.Int64, strict=False)
            exact = exact.set(frame["timestamp"] != exact, None)
            numbers = range(block.first_line, block.first_line + block.lines)
            problems.total += len(frame)
            problems.in_file += block.lines
        frames.append(frame)
        whole.append(exact)
        lines.append(numbers)
    frame = _settled(pl.concat(frames), pl.concat(whole), lines, fields, problems)
    problems.delivered = len(frame)
    return frame


def _settled(
    frame: pl.DataFrame, whole: pl.Series, lines: Sequence[Sequence[int]], fields: ReviewFields, problems: Problems
) -> pl.DataFrame:
    """The rows whose times can stand beside each other, in seconds."""
    times = settle_times(RawTimes(frame["timestamp"], whole), fields.per_second)
    if times.unit:
        problems.note(f"{fields.time} in {times.unit}, brought to seconds", len(frame))
    numbers = np.concatenate([np.asarray(some) for some in lines]) if times.bad else np.zeros(0)
    for row, reason in times.bad.items():
        problems.add(int(numbers[row]), f"{fields.time} {frame['timestamp'][row]:.15g} {reason}")
    ticks = [] if times.ticks is None else [times.ticks.alias("ticks")]
    frame = frame.with_columns(times.timestamp.alias("timestamp"), *ticks)
    if not times.bad:
        return frame
    mask = np.ones(len(frame), dtype=bool)
    mask[list(times.bad)] = False
    return frame.filter(mask)


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
        pl.col("timestamp") >= _EXACT,  # whole numbers that large are read one by one, as such
        ~pl.col("rating").is_finite(),
    )
    return None if frame.select(odd.any()).item() else frame


def _line_by_line(block: Block, fields: ReviewFields, problems: Problems) -> tuple[pl.DataFrame, pl.Series, list[int]]:
    """Rows, their times where they are whole numbers, and their lines."""
    rows, whole, lines = [], [], []
    for number, line in json_lines(block, problems):
        try:
            rows.append(_row(line, fields))
        except ValueError as error:
            problems.add(number, str(error))
        else:
            whole.append(_whole_number(line[fields.time], rows[-1][2]))
            lines.append(number)
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row"), pl.Series(whole, dtype=pl.Int64), lines


def _whole_number(value: Any, number: float) -> int | None:
    """A time as a whole number, if it is one that fits into 64 bits."""
    if not number.is_integer() or abs(number) >= 2**63:
        return None
    try:
        return int(value)
    except ValueError:  # text with a fraction of zero, or an exponent
        return int(number)


def json_lines(block: Block, problems: Problems) -> Iterator[tuple[int, Any]]:
    """Line numbers and parsed lines; what is not JSON is a bad row. Bytes that are not UTF-8 become lone surrogates."""
    if not block.data.strip():  # to split megabytes of line ends takes more than to know that they are that
        return
    for number, line in enumerate(block.data.split(b"\n"), start=block.first_line):
        if not line.strip():
            continue
        problems.total += 1
        try:
            record = json.loads(line.decode("utf-8", "surrogateescape"))
            if number == 1 and isinstance(record, list) and record and all(isinstance(each, dict) for each in record):
                raise UserError(f"{problems.path}: one JSON list of all records, not one per line; {_ONE_A_LINE}")
            yield number, record
        except json.JSONDecodeError as error:
            if number == 1 and line.strip() in (b"[", b"{", b"[{"):
                raise UserError(
                    f"{problems.path}: JSON over several lines, not one record per line; {_ONE_A_LINE}"
                ) from None
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
    return not text.isascii() and _SURROGATE.search(text) is not None
