"""Reads the records of a W&B run back from its `.wandb` file: LevelDB's log format with a header of W&B's own."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

_BLOCK = 32768
_HEADER = 7
_FULL, _LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """Every record; an AssertionError if a checksum is wrong."""
    data = path.read_bytes()
    assert data[:4] == b":W&B", "no header"
    position, record = _HEADER, b""
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        checksum, length, kind = struct.unpack("<IHB", data[position : position + _HEADER])
        part = data[position + _HEADER : position + _HEADER + length]
        assert zlib.crc32(bytes([kind]) + part) == checksum, f"damaged at byte {position}"
        position += _HEADER + length
        record += part
        if kind in (_FULL, _LAST):
            message = pb.Record()
            message.ParseFromString(record)
            yield message
            record = b""
    assert not record, "the last record is cut"


class Recorded:
    """What one file holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.artifacts: list[Any] = []
        self.files: list[str] = []
        self.environment: list[Any] = []
        self.exit_code: int | None = None
        for record in records(path):
            self._take(record)

    def _take(self, record: Any) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            self.run = record.run
            self._configure(record.run.config)
        elif kind == "config":
            self._configure(record.config)
        elif kind == "history":
            self.history.append({_name(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            self.summary |= {_name(item): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "artifact":
            self.artifacts.append(record.artifact)
        elif kind == "files":
            self.files += [each.path for each in record.files.files]
        elif kind == "environment":
            self.environment.append(record.environment)
        elif kind == "exit":
            self.exit_code = record.exit.exit_code

    def _configure(self, config: Any) -> None:
        self.config |= {_name(item): json.loads(item.value_json) for item in config.update}

    def artifact(self, kind: str, used: bool = False) -> Any:
        """The one artifact of a type that the run made, or used."""
        found = [each for each in self.artifacts if each.type == kind and each.use_after_commit == used]
        assert len(found) == 1, f"{kind}: {len(found)}"
        return found[0]

    def table(self, name: str) -> dict[str, Any]:
        """A table as it lies in the run's files."""
        paths = [path for path in self.files if path.startswith(f"media/table/{name}_")]
        return json.loads((self.path.parent / "files" / paths[-1]).read_text())


def recorded(run: Path) -> dict[str, list[Recorded]]:
    """The W&B runs under an experiment's run folder by stage, attempts in order."""
    found: dict[str, list[Recorded]] = {}
    for path in sorted(run.glob("wandb/*run-*/run-*.wandb")):
        each = Recorded(path)
        found.setdefault(each.run.job_type, []).append(each)
    return found


def _name(item: Any) -> str:
    return "/".join(item.nested_key) or item.key
