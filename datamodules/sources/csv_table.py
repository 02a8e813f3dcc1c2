"""Interactions from CSV: the whole table by polars, or row by row where something in it is odd."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from datamodules.sources.base import Problems
from datamodules.sources.lines import not_utf8
from datamodules.sources.streams import read_whole
from dig.config import UserError, nearest

__all__ = ["check_columns", "check_values", "csv_records", "read_csv"]

_TIMES = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S%.f")
_OPTIONAL = ("rating", "part")


def read_csv(
    path: Path, columns: Mapping[str, str], problems: Problems, ignored: Sequence[str] = ()
) -> pl.DataFrame:  # fmt: skip
    """Reads user_id, item_id, timestamp, and rating where there is one.

    Args:
        path: comma-separated (tab-separated for ``.tsv``) with a header, plain or compressed.
        columns: our name → the file's.
        problems: takes bad rows, with the line each begins at.
        ignored: columns that are known and of no use; others are noted.

    Raises:
        UserError: if the file is empty, damaged, or lacks or repeats a column.
    """
    content = read_whole(path)
    header = _header(path, content)
    _check_header(path, header, columns)
    extra = [name for name in header if name not in columns.values() and name not in ignored]
    if extra:
        problems.note(f"column ignored: {', '.join(repr(name) for name in extra[:5])}")
    wanted = {ours: theirs for ours, theirs in columns.items() if theirs in header}
    frame = _whole(content, path, wanted)
    if frame is None:
        raw, lines = _row_by_row(content, path, header, wanted, problems)
        return check_values(raw, lines, problems)
    problems.total += len(frame)
    return frame


def check_values(frame: pl.DataFrame, lines: Sequence[int], problems: Problems) -> pl.DataFrame:
    """Checks and converts text columns; what cannot be is a bad row.

    Args:
        frame: user_id, item_id, timestamp and perhaps rating, all text.
        lines: (rows,) where each begins.
        problems: takes the bad rows.

    Returns:
        The good rows, with timestamp in seconds (of a number, or of an ISO date) and rating as Float64.
    """
    checked = frame.with_columns(seconds(pl.col("timestamp")).alias("parsed"))
    shown = pl.col("timestamp").replace({"": None}).fill_null("(empty)").str.head(40)
    reason = (
        pl.when(pl.col("user_id").fill_null("") == "").then(pl.lit("user_id is empty"))
        .when(pl.col("item_id").fill_null("") == "").then(pl.lit("item_id is empty"))
        .when(pl.col("parsed").is_null())
        .then(pl.format("timestamp {} is no number or date", shown))
        .when(pl.col("parsed") < 0).then(pl.format("timestamp {} is negative", pl.col("timestamp")))
    )  # fmt: skip
    checked = checked.with_columns(reason.alias("reason"))
    for row in checked["reason"].is_not_null().arg_true():
        problems.add(lines[row], checked["reason"][row])
    return _typed(checked.filter(pl.col("reason").is_null()))


def seconds(column: pl.Expr) -> pl.Expr:
    """Text to seconds: a finite number as it is, else an ISO date or moment (UTC); null for anything else."""
    number = column.str.strip_chars().cast(pl.Float64, strict=False)
    moments = [column.str.to_datetime(form, strict=False, time_unit="ms").dt.epoch("ms") / 1000 for form in _TIMES]
    return pl.coalesce(pl.when(number.is_finite()).then(number), *moments)


def csv_records(path: Path, required: Sequence[str], problems: Problems) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a small table as dicts of text, with the line each begins at; wrong numbers of fields are bad rows.

    Raises:
        UserError: if the file is empty, damaged, or lacks or repeats a column.
    """
    content = read_whole(path)
    header = _header(path, content)
    _check_header(path, header, {name: name for name in required})
    for line, fields in _fields(content, path, header, problems):
        yield line, dict(zip(header, fields, strict=True))


def check_columns(path: Path, columns: Sequence[str], required: Sequence[str]) -> None:
    """Checks a header.

    Raises:
        UserError: for a column that is missing (with the nearest that is there) or stands there twice.
    """
    for name in required:
        if name not in columns:
            hint = nearest(name, columns)
            found = f"did you mean {hint!r}?" if hint else f"it has: {', '.join(columns) or 'nothing'}"
            raise UserError(f"{path}: column {name!r} is missing; {found} (data.columns maps names)")
        if list(columns).count(name) > 1:
            raise UserError(f"{path}: column {name!r} stands there twice")


def _check_header(path: Path, header: Sequence[str], columns: Mapping[str, str]) -> None:
    needed = [theirs for ours, theirs in columns.items() if ours not in _OPTIONAL]
    present = [theirs for theirs in columns.values() if theirs in header]
    check_columns(path, header, list(dict.fromkeys([*needed, *present])))


def _separator(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes else ","


def _header(path: Path, content: bytes) -> list[str]:
    if not content.strip():
        raise UserError(f"{path}: the file is empty")
    first = content[: content.find(b"\n")] if b"\n" in content else content
    return next(csv.reader([first.decode("utf-8", "replace").rstrip("\r")], delimiter=_separator(path)), [])


def _whole(content: bytes, path: Path, columns: Mapping[str, str]) -> pl.DataFrame | None:
    """All rows at once, or None if one of them needs a closer look."""
    try:
        raw = pl.read_csv(io.BytesIO(content), infer_schema=False, columns=list(columns.values()),
                          separator=_separator(path))  # fmt: skip
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError):
        return None
    raw = raw.select(pl.col(theirs).alias(ours) for ours, theirs in columns.items())
    raw = raw.with_columns(_number_or_moment(raw["timestamp"]).alias("parsed"))
    again = (pl.col("user_id") == columns["user_id"]) & (pl.col("item_id") == columns["item_id"])
    odd = (
        pl.col("user_id").is_null() | pl.col("item_id").is_null() | (pl.col("user_id") == "")
        | (pl.col("item_id") == "") | pl.col("parsed").is_null() | (pl.col("parsed") < 0) | again
    )  # fmt: skip
    return None if raw.select(odd.any()).item() else _typed(raw)


def _number_or_moment(values: pl.Series) -> pl.Series:
    """Nearly all tables hold plain numbers, which is tried first since it is fast."""
    numbers = values.cast(pl.Float64, strict=False)
    if numbers.null_count() == 0 and numbers.is_finite().all():
        return numbers
    return pl.DataFrame({"timestamp": values}).select(seconds(pl.col("timestamp"))).to_series()


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    columns = [pl.col("user_id", "item_id"), pl.col("parsed").alias("timestamp")]
    if "rating" in frame.columns:
        columns.append(pl.col("rating").cast(pl.Float64, strict=False))
    if "part" in frame.columns:
        columns.append(pl.col("part"))
    return frame.select(columns)


def _row_by_row(
    content: bytes, path: Path, header: Sequence[str], columns: Mapping[str, str], problems: Problems
) -> tuple[pl.DataFrame, list[int]]:
    places = {ours: list(header).index(theirs) for ours, theirs in columns.items()}
    rows, lines = [], []
    for line, fields in _fields(content, path, header, problems):
        values = [fields[place] for place in places.values()]
        broken = next((name for name, value in zip(places, values, strict=True) if not_utf8(value)), None)
        if broken:
            problems.add(line, f"{broken} is not UTF-8")
        else:
            rows.append(values)
            lines.append(line)
    return pl.DataFrame(rows, schema=dict.fromkeys(places, pl.String), orient="row"), lines


def _fields(
    content: bytes, path: Path, header: Sequence[str], problems: Problems
) -> Iterator[tuple[int, list[str]]]:  # fmt: skip
    """Good rows' fields with the line each begins at."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=_separator(path))
    next(reader, None)
    begins = reader.line_num + 1
    try:
        for fields in reader:
            line, begins = begins, reader.line_num + 1
            if not fields:
                continue  # an empty line
            problems.total += 1
            if fields == list(header):
                problems.add(line, "the header again")
            elif len(fields) != len(header):
                problems.add(line, f"{len(fields)} fields instead of {len(header)}")
            else:
                yield line, fields
    except csv.Error as error:
        raise UserError(f"{path}:{begins}: {error}; is a quote there never closed?") from None
