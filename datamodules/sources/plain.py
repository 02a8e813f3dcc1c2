"""Interactions in files without a header and without quotation marks: a row a line, fields between a separator."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import polars as pl

from datamodules.sources.base import Problems
from datamodules.sources.csv_table import check_values
from datamodules.sources.streams import count_records, pieces, read_whole
from dig.config import UserError

__all__ = ["first_fields", "read_plain"]


def read_plain(
    path: Path, separator: str, columns: Sequence[str], problems: Problems, encoding: str = "utf-8", per_second: int = 1
) -> pl.DataFrame:
    """Reads user_id, item_id, timestamp and rating; every line that is not empty is a row or a bad row.

    Args:
        path: plain or compressed.
        separator: between the fields.
        columns: what the fields are, in their order.
        problems: takes bad rows, and counts.
        encoding: of the file.
        per_second: units of a timestamp in a second.

    Raises:
        UserError: if the file is empty or damaged.
    """
    content = read_whole(path, encoding)
    if not content.strip():
        raise UserError(f"{path}: the file is empty")
    lines = pl.read_csv(
        io.BytesIO(content),
        has_header=False,
        separator="\n",
        quote_char=None,
        infer_schema=False,
        new_columns=["line"],
        encoding="utf8-lossy",
    )["line"].str.strip_suffix("\r")
    text = lines.fill_null("").str.strip_chars() != ""
    numbers = text.arg_true() + 1
    rows = lines.filter(text)
    if separator == ",":
        rows = rows.str.replace_all('"', "", literal=True)
    fields = rows.str.split(separator)
    whole = fields.list.len() == len(columns)
    problems.total += len(fields)
    problems.in_file += count_records(content)
    for row in (~whole).arg_true():
        problems.add(numbers[row], f"{len(fields[row])} fields instead of {len(columns)}")
    frame = pl.DataFrame({name: fields.filter(whole).list.get(place) for place, name in enumerate(columns)})
    numbers = numbers.filter(whole)
    for name in ("user_id", "item_id"):
        broken = frame[name].str.contains("\ufffd", literal=True)
        for row in broken.arg_true():
            problems.add(numbers[row], f"{name} is not UTF-8")
        frame, numbers = frame.filter(~broken), numbers.filter(~broken)
    frame = check_values(frame, numbers.to_list(), problems, per_second=per_second)
    problems.delivered = len(frame)
    return frame


def first_fields(path: Path, separator: str, rows: int = 1000) -> list[list[str]]:
    """The fields of the first lines, for telling what a file holds."""
    start = next(pieces(path), b"")
    lines = (line.strip() for line in start.decode("utf-8", "replace").split("\n"))
    return [line.split(separator) for line in islice(filter(None, lines), rows)]
