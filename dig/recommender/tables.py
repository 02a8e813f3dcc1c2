"""Tables that answers are read from: those in a run's folder, and lists of ids as shops export them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from dig.config import UserError, nearest
from dig.engine.console import printable, warn
from dig.engine.proof import RunProof
from dig.received.tables import IDS, extent_problem, read_parquet_table

__all__ = ["read_ids", "read_run_table"]

_OF_OURS = " (data.columns maps names)"  # which lists of ids have no use for


_AGAIN = "the same dig.train command writes it again from what is kept"
_TYPES: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "title": pl.String(),
    "user": pl.String(),
    "items": IDS,
    "tests": pl.Int64(),
    "text": pl.String(),
    "label": pl.Int64(),
    "score": pl.Float64(),
    "confidence": pl.Float64(),
}
_FULL = ("item_id", "user", "items", "text")
"""Of each row these have a value, and so has each place of a list."""


def read_run_table(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Columns of a table of a run, each in the type in which a run writes it.

    Raises:
        UserError: it is not the table that the run was left with, cannot be read, lacks a column, has one of another
            type, or a row without an id.
    """
    if (path.parent / "config.yaml").is_file():
        RunProof(path.parent).require(path.name)
    schema = {name: _TYPES[name] for name in columns}
    frame = read_parquet_table(path, schema, nulls=tuple(set(columns) - set(_FULL)), advice=_AGAIN)
    for name in columns:
        odd = ~frame[name].is_between(0, 1) if schema[name].is_float() else None  # NaN is above all numbers
        if odd is not None and odd.any():
            row = int(odd.fill_null(value=False).arg_max() or 0)
            raise UserError(f"{path} cannot be read: row {row + 1} has a {name} that is not between 0 and 1; {_AGAIN}")
    return frame


def read_ids(path: str | Path, column: str) -> list[Any]:
    """The ids that a file lists, in its order: what is in stock, or who is to be answered.

    Args:
        path: a table with a header (``.csv``, ``.tsv``) or Parquet, of which one column is read; any other file has an
            id in each line, taken as it stands. All but Parquet may be ``.gz`` or ``.zst``.
        column: the column, ``item_id`` or ``user_id``.

    Returns:
        Texts; of a Parquet column of numbers the numbers.

    Raises:
        UserError: the file is missing, empty or damaged, lacks the column, or has a row that cannot be read.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{path} is not a file", exit_code=2)
    if path.suffix == ".parquet":
        ids = _parquet_column(path, column)
    elif {".csv", ".tsv"} & set(path.suffixes):
        ids = _csv_column(path, column)
    else:
        ids = _lines(path)
    if not ids:
        raise UserError(f"{path} lists no ids")
    return ids


def _parquet_column(path: Path, column: str) -> list[Any]:
    try:
        problem = extent_problem(path)
        if problem is not None:
            raise UserError(f"{path}: cannot be read as Parquet: {problem}")
        columns = pl.scan_parquet(path, glob=False).collect_schema().names()
        if column in columns:
            _tell_unread(path, column, columns)
            return pl.read_parquet(path, columns=[column], glob=False)[column].to_list()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    hint = nearest(column, columns)
    advice = f"did you mean {hint!r}?" if hint else f"it has: {', '.join(columns) or 'nothing'}"
    raise UserError(f"{path}: column {column!r} is missing; {advice}")


def _csv_column(path: Path, column: str) -> list[Any]:
    from datamodules.sources.base import Problems
    from datamodules.sources.csv_table import csv_records

    problems = Problems(path)
    try:
        records = [record for _, record in csv_records(path, [column], problems)]
    except UserError as error:
        raise UserError(str(error).replace(_OF_OURS, "")) from None
    if problems.rows:
        line, reason = problems.rows[0]
        raise UserError(f"{path}, line {line}: {reason}; a list of ids is read whole or not at all")
    _tell_unread(path, column, records[0] if records else ())
    return [record[column] for record in records]


def _tell_unread(path: Path, column: str, known: Iterable[str]) -> None:
    """A quantity of 0, say, takes nothing out of a list."""
    others = [printable(name, 40) for name in known if name != column]
    if others:
        unread = ", ".join(others[:5]) + (", …" if others[5:] else "")
        warn(f"{path}: only {column} is read, so every row counts, whatever it says in {unread}")


def _lines(path: Path) -> list[Any]:
    from datamodules.sources.streams import pieces

    content = b"".join(pieces(path))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        advice = "a list has one id in each line, a table is named .csv, .tsv or .parquet"
        raise UserError(f"{path}, line {line}: not UTF-8; {advice}") from None
    return [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip()]
