"""W&B's own records of a run, mended after a kill, so that the next attempt can resume it without a gap.

W&B's process writes its records in blocks of 32 KiB, so a kill cuts a record in two and loses up to a block of them.
Their format is private and read here all the same, because `wandb sync` (0.31) ends a run at the first incomplete
record, with exit code 0, and never comes to the records of the attempts after it; setting the whole file aside instead
would lose what only it holds, such as the use of the GPU.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dig.engine.console import warn
from dig.engine.own_files import atomic_path

__all__ = ["Record", "last_step", "mend_records", "rows_since", "whole_records"]

_MAGIC = b":W&B"
_HEADER = 7  # bytes of the file's header, and of a part's: checksum, length, kind
_BLOCK = 32768
_WHOLE, _LAST = 1, 4  # kinds of parts that end a record
_OPENING = 2  # records until W&B knows which run it is


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
    position, parts, records = _HEADER, list[bytes](), list[Record]()
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, position)
        part = data[position + _HEADER : position + _HEADER + length]
        if len(part) < length or zlib.crc32(bytes([kind]) + part) != checksum:
            return None if position + _HEADER + length < written else records
        position += _HEADER + length
        parts.append(part)
        if kind in (_WHOLE, _LAST):
            records.append(Record(position, b"".join(parts)))
            parts = []
    return records


def mend_records(folder: Path, run_id: str) -> None:
    """Cuts what is incomplete off the end of the records that earlier attempts at a W&B run left.

    A file in which not even the run itself was written is set aside: it would stop the sync of all others.

    Each file becomes a copy of itself: W&B's process outlives the one that was killed, by a moment or more on a busy
    machine, and a block that it still writes must not land behind the place of the cut.

    Args:
        folder: that holds the folders of W&B runs.
        run_id: the W&B run.
    """
    for path in _files(folder, run_id):
        records = whole_records(path)
        if records is None:
            warn(f"W&B: {path} is damaged and cannot be sent as a whole")
        elif len(records) < _OPENING:
            path.rename(path.with_name(f"{path.name}.empty"))
        else:
            with atomic_path(path) as copy:
                shutil.copyfile(path, copy)
                os.truncate(copy, records[-1].end)


def last_step(folder: Path, run_id: str, name: str) -> int:
    """The highest step that the records of a W&B run know, -1 for none.

    Args:
        folder: that holds the folders of W&B runs.
        run_id: the W&B run.
        name: of the metric that counts steps.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    last = -1
    for path in _files(folder, run_id):
        for each in whole_records(path) or []:
            record = Record.FromString(each.content)
            for item in record.history.item:
                if name in (item.key, "/".join(item.nested_key)):
                    last = max(last, int(json.loads(item.value_json)))
    return last


def rows_since(logs: Path, step: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Steps and metrics of a stage's own logs, from a step on, attempt after attempt; a line that was cut is left out.

    All attempts, since one that was killed soon may have lost again what it had caught up with.

    Args:
        logs: a stage's folder of logs, with a folder an attempt.
        step: the first that is wanted.
    """
    for path in sorted(logs.glob("*/metrics.csv")):
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            lines = csv.reader(stream)
            names = next(lines, [])
            for line in lines:
                try:
                    row = {name: float(value) for name, value in zip(names, line, strict=True) if value}
                except ValueError:
                    continue
                at = int(row.pop("step", -1.0))
                if at >= step:
                    yield at, row


def _files(folder: Path, run_id: str) -> list[Path]:
    return sorted(folder.glob(f"*run-*-{run_id}/run-{run_id}.wandb"))
