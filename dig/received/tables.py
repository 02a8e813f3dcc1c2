"""Parquet tables that may come from anybody: their columns, types and length are looked at before a value is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from dig.config.errors import UserError, nearest
from dig.received.footer import most_values

__all__ = ["IDS", "extent_problem", "read_parquet_table"]

IDS = pl.List(pl.String)
"""The type of a column with a list of ids in each row."""
_ROWS = 1_000_000
_ROWS_A_BYTE = 8
"""Rows for each byte of a file, beyond the first million: a column that repeats one value takes none, and a file of a
few kilobytes could fill the memory. No two rows of a table of ids are the same."""
_TEXT = 1 << 30
_TEXT_A_BYTE = 100
"""Bytes of text likewise: a file holds a text once that stands in many rows."""
_VALUES = 1 << 24
_VALUES_A_BYTE = 64
"""Values in lists likewise, of all rows together."""
_MARK = b"PAR1"


def read_parquet_table(
    path: Path,
    schema: Mapping[str, pl.DataType | type[pl.DataType]],
    *,
    optional: Mapping[str, pl.DataType | type[pl.DataType]] | None = None,
    nulls: tuple[str, ...] = (),
    advice: str = "",
) -> pl.DataFrame:
    """The columns of a table that are asked for, in the types that are asked for.

    Whole numbers and floats are widened; a text is never made of a number, since nobody knows how the id was written.

    Args:
        path: the file.
        schema: types of the columns that must be there.
        optional: types of columns that are read where they are there.
        nulls: columns of which a row may have no value; of every other each row has one.
        advice: what to do, behind a semicolon of the message.

    Raises:
        UserError: the file is missing, damaged, or implausibly long for its size; a column is missing, has another type
            or lacks a value.
    """
    behind = f"; {advice}" if advice else ""
    try:
        size = _extent(path)
        lazy = pl.scan_parquet(path, glob=False)
        types = dict(lazy.collect_schema())
        wanted = dict(schema) | {name: kind for name, kind in (optional or {}).items() if name in types}
        _check_types(types, wanted)
        frame = lazy.select(list(wanted)).collect()
        _check_text(frame, size)
        _check_nulls(frame, set(wanted) - set(nulls))
        return frame.cast({name: kind for name, kind in wanted.items() if frame.schema[name] != kind})
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}{behind}") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, MemoryError) as error:
        raise UserError(f"{path} cannot be read: {_first_line(error)}{behind}") from None


def extent_problem(path: Path) -> str | None:
    """Why a table is not to be read as a whole: it is not Parquet, or promises far more than its bytes can tell."""
    try:
        _extent(path)
    except ValueError as error:
        return str(error)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, MemoryError) as error:
        return _first_line(error)
    return None


def _extent(path: Path) -> int:
    """Bytes of the file, once its own account of rows and values in lists is not far beyond them."""
    if not path.is_file():
        raise ValueError("it is not a file" if path.exists() else "it is missing")
    size = path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(len(_MARK)) != _MARK:
            raise ValueError("it is not a Parquet file" if size else "it is empty")
    rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    if rows > _ROWS + _ROWS_A_BYTE * size:
        raise ValueError(f"it says that {size:,} bytes hold {rows:,} rows")
    values = most_values(path)
    if values > _VALUES + _VALUES_A_BYTE * size:
        raise ValueError(f"it says that {size:,} bytes hold {values:,} values")
    return size


def _check_text(frame: pl.DataFrame, size: int) -> None:
    total = 0
    for column in frame:
        texts = column.explode() if isinstance(column.dtype, pl.List) else column
        if texts.dtype == pl.String:
            total += int(texts.str.len_bytes().sum() or 0)
    if total > _TEXT + _TEXT_A_BYTE * size:
        raise ValueError(f"its {size:,} bytes hold {total:,} bytes of text")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _check_types(types: Mapping[str, pl.DataType], wanted: Mapping[str, pl.DataType | type[pl.DataType]]) -> None:
    for name, kind in wanted.items():
        if name not in types:
            hint = nearest(name, types)
            raise ValueError(f"it has no column {name}" + (f" (is it {hint}?)" if hint else ""))
        if not _fits(types[name], kind):
            raise ValueError(f"its column {name} holds {_words(types[name])} and not {_words(kind)}")


def _fits(found: pl.DataType, wanted: pl.DataType | type[pl.DataType]) -> bool:
    if found == wanted or isinstance(found, pl.Null):  # a column without a value, which has no type
        return True
    if isinstance(wanted, pl.List):
        return (
            isinstance(found, pl.List | pl.Array)
            and found.inner is not None
            and (isinstance(found.inner, pl.Null) or _fits(_instance(found.inner), wanted.inner))
        )
    kind = _instance(wanted)
    if kind.is_integer():
        return found.is_integer()
    if kind.is_float():
        return found.is_numeric()
    return kind == pl.String and isinstance(found, pl.Categorical | pl.Enum)


def _instance(kind: pl.DataType | type[pl.DataType]) -> pl.DataType:
    return kind() if isinstance(kind, type) else kind


def _check_nulls(frame: pl.DataFrame, full: set[str]) -> None:
    for name in frame.columns:
        column = frame[name]
        if name not in full:
            continue
        if column.null_count():
            row = int(column.is_null().arg_max() or 0)
            raise ValueError(f"row {row + 1} has no {name}")
        if isinstance(column.dtype, pl.List) and column.dtype.inner == pl.String and _inner_nulls(column):
            raise ValueError(f"a row lacks a value within its {name}")


def _inner_nulls(lists: pl.Series) -> bool:
    """Whether a list holds a null; of an empty list polars' versions make a null or nothing."""
    return lists.filter(lists.list.len() > 0).explode().null_count() > 0


def _words(kind: pl.DataType | type[pl.DataType]) -> str:
    kind = _instance(kind)
    if isinstance(kind, pl.List | pl.Array):
        return f"lists of {_words(kind.inner)}" if kind.inner is not None else "lists"
    if kind.is_integer():
        return "whole numbers"
    if kind.is_numeric():
        return "numbers"
    return {pl.String: "texts", pl.Boolean: "true and false", pl.Null: "nothing"}.get(type(kind), f"{kind}")
