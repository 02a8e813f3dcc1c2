"""Figures of the benchmarks: the last line of JSON that each prints, what it aims at, and the table of both."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from dig.config import UserError, nearest
from dig.engine.artifacts import read_json, write_json
from dig.records.markdown import MISSING, markdown_table
from dig.records.record import package_versions

__all__ = ["BenchmarkStore"]


class BenchmarkStore:
    """Records of benchmarks, a room each.

    Args:
        folder: where they lie.
        described: YAML: a room's figures, each with ``meaning`` and perhaps ``at_least`` or ``at_most``.

    Raises:
        UserError: the description cannot be read.
    """

    def __init__(self, folder: Path, described: Path) -> None:
        self.folder, self.described = folder, described
        try:
            content = yaml.safe_load(described.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{described}: cannot be read: {str(error).splitlines()[0]}") from None
        if not isinstance(content, dict):
            raise UserError(f"{described}: is no mapping of rooms to figures")
        self.rooms: dict[str, dict[str, dict[str, Any]]] = content

    def save(self, output: str) -> Path:
        """Keeps the last line of JSON in a benchmark's output, as a record of the room that has most of its figures.

        Raises:
            UserError: there is no such line, or no room has any of its figures.
        """
        figures = _last_json(output)
        shared = {room: len(figures.keys() & described.keys()) for room, described in self.rooms.items()}
        room = max(shared, key=lambda each: shared[each])
        if not shared[room]:
            key = next(iter(figures))
            hint = nearest(key, [figure for described in self.rooms.values() for figure in described])
            near = f"; the nearest is {hint}" if hint else ""
            raise UserError(f"{self.described}: no room has the figure {key}{near}")
        path = self.folder / f"{room}.json"
        record = {
            "date": datetime.now(UTC).date().isoformat(),
            "cores": os.cpu_count(),
            "versions": package_versions(),
            "figures": figures,
        }
        write_json(path, record)
        return path

    def benchmark(self, room: str) -> str:
        """A room's figures with aim and meaning; says so where it was not measured yet.

        Raises:
            UserError: the room is not described, or its record is damaged.
        """
        if room not in self.rooms:
            raise UserError(f"{self.described}: no room {room}; did you mean {nearest(room, self.rooms)}?")
        path = self.folder / f"{room}.json"
        if not path.is_file():
            return f"*Not measured yet: `make bench-{room}`.*"
        try:
            record = read_json(path)
            figures = record["figures"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}: is no record of a benchmark") from None
        rows = [
            [
                f"`{key}`",
                _shown(figures.get(key)),
                _aim(described),
                _reached(figures.get(key), described),
                described["meaning"],
            ]
            for key, described in self.rooms[room].items()
        ]
        columns = ["figure", "found", "aim", "reached", "meaning"]
        return f"{_origin(room, record)}\n\n{markdown_table(columns, rows, (0, 3, 4))}"


def _last_json(output: str) -> dict[str, Any]:
    for line in reversed(output.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and found:
            return found
    raise UserError("no line of the output is a JSON object; it is the last line that a benchmark prints", exit_code=2)


def _origin(room: str, record: Mapping[str, Any]) -> str:
    if record.get("from_lab_notes"):
        return "From the [lab notes](lab/notes.md), typed by hand."
    versions = ", ".join(f"{key} {value}" for key, value in (record.get("versions") or {}).items() if value)
    return f"`make bench-{room}`, {record.get('date')}, {record.get('cores')} cores, {versions}."


def _shown(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _aim(described: Mapping[str, Any]) -> str:
    if "at_least" in described:
        return f"≥ {_shown(described['at_least'])}"
    return f"≤ {_shown(described['at_most'])}" if "at_most" in described else ""


def _reached(value: Any, described: Mapping[str, Any]) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _aim(described):
        return ""
    return "yes" if described.get("at_least", value) <= value <= described.get("at_most", value) else "no"
