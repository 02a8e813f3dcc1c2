"""Parquet tables that may come from anybody: their columns, types and length are looked at before a value is read.

A list of equal values takes a few bytes for any number of them, so that a table of one row could fill the memory. The
count stands in the footer, in Thrift's compact protocol: structs of numbered fields, each with its type.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from dig.config.errors import UserError, nearest

__all__ = [
    "most_values",
    "IDS",
    "extent_problem",
    "read_parquet_table",
]


_MARK = b"PAR1"
_FOOTER_BYTES = 64 << 20
"""Bytes of a footer at most: ten thousand parts of ten columns take ten million."""
_DEEPEST = 16
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
# Numbers of the fields that lead to a column's count.
_ROW_GROUPS, _COLUMNS, _META_DATA, _PATH, _NUM_VALUES = 4, 1, 3, 3, 5


def most_values(path: Path) -> int:
    """The values of the longest column.

    Raises:
        ValueError: the file has no footer of Parquet.
    """
    try:
        groups = _Reader(_footer(path)).struct().get(_ROW_GROUPS, [])
        columns: dict[tuple[bytes, ...], int] = {}
        for group in groups:
            for column in group.get(_COLUMNS, []):
                facts = column.get(_META_DATA, {})
                name = tuple(facts.get(_PATH, ()))
                columns[name] = columns.get(name, 0) + abs(int(facts.get(_NUM_VALUES, 0)))
        return max(columns.values(), default=0)
    except (IndexError, AttributeError, TypeError, struct.error):
        raise ValueError("its footer is not that of Parquet") from None


def _footer(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - 8))
        tail = stream.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != _MARK or length > size - 8:
            raise ValueError("it is cut off, or not a Parquet file")
        if length > _FOOTER_BYTES:
            raise ValueError(f"its footer has {length >> 20} MB, too much for a table")
        stream.seek(size - 8 - length)
        return stream.read(length)


class _Reader:
    """Reads the compact protocol; a struct is its fields by number.

    Args:
        content: the bytes.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Fields by number."""
        if depth > _DEEPEST:
            raise TypeError
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._signed()
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE, _BYTE):  # within lists a truth is a byte
            return self._byte()
        if kind in (_I16, _I32, _I64):
            return self._signed()
        if kind in (_DOUBLE, _BINARY):
            return self._bytes(8 if kind == _DOUBLE else self._unsigned())
        if kind in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._unsigned()
            return [self._value(head & 15, depth) for _ in range(count)]
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise TypeError  # a map, which no footer has

    def _byte(self) -> int:
        self._place += 1
        return self._content[self._place - 1]

    def _bytes(self, count: int) -> bytes:
        if count > len(self._content) - self._place:
            raise IndexError
        self._place += count
        return self._content[self._place - count : self._place]

    def _unsigned(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise TypeError

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


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
        columns = dict(schema) | {name: kind for name, kind in (optional or {}).items() if name in types}
        _check_types(types, columns)
        frame = lazy.select(list(columns)).collect()
        _check_text(frame, size)
        _check_nulls(frame, set(columns) - set(nulls))
        return frame.cast({name: kind for name, kind in columns.items() if frame.schema[name] != kind})
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
