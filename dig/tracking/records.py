"""W&B's own records of a run on disk, read as far as they are whole."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

__all__ = ["Record", "whole_records"]

_MAGIC = b":W&B"
_HEADER = 7  # bytes of the file's header, and of a part's: checksum, length, kind
_BLOCK = 32768
_WHOLE, _LAST = 1, 4  # kinds of parts that end a record


class Record(NamedTuple):
    """A record.

    Attributes:
        end: where it ends in the file, in bytes.
        content: a serialised `Record` of W&B's.
    """

    end: int
    content: bytes


def whole_records(path: Path) -> list[Record] | None:
    """The records before the place where a file was cut; None if it is damaged before its end.

    The format is that of LevelDB's logs: blocks of 32 KiB, records cut into parts at their borders, each part with a
    checksum of its kind and content.
    """
    data = path.read_bytes()
    if data[:4] != _MAGIC[: len(data)]:
        return None
    written = len(data.rstrip(b"\0"))  # a file system may give room before it knows what to write there
    position, parts, found = _HEADER, list[bytes](), list[Record]()
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, position)
        part = data[position + _HEADER : position + _HEADER + length]
        if len(part) < length or zlib.crc32(bytes([kind]) + part) != checksum:
            return None if position + _HEADER + length < written else found
        position += _HEADER + length
        parts.append(part)
        if kind in (_WHOLE, _LAST):
            found.append(Record(position, b"".join(parts)))
            parts = []
    return found
