"""How many values a Parquet file says that its columns hold, lists written out, before a value is read.

A list of equal values takes a few bytes for any number of them, so that a table of one row could fill the memory. The
count stands in the footer, in Thrift's compact protocol: structs of numbered fields, each with its type.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

__all__ = ["most_values"]

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
