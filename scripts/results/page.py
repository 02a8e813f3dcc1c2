"""``docs/results.md``: templates that people write, with tables that nobody types."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined, TemplateError, TemplateSyntaxError

from dig.config import UserError, nearest
from dig.engine.artifacts import read_json, write_json
from dig.report.data import package_versions
from scripts.results.records import RunStore
from scripts.results.tables import MISSING, RunTables, heading, markdown_table, number

__all__ = ["PublishedNumbers", "BenchmarkStore", "check_page", "render_page"]


_METRICS = ("hr@5", "hr@10", "ndcg@5", "ndcg@10")
_KEYS = {"system", "metrics", "split", "source"}


class PublishedNumbers:
    """Numbers by data set.

    Args:
        path: YAML, a list of ``system``, ``metrics``, ``split``, ``source`` a data set.

    Raises:
        UserError: it cannot be read, or an entry misses one of these.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
        if not isinstance(content, dict):
            raise UserError(f"{path}: is not a mapping of data sets to published numbers")
        self.content: dict[str, list[dict[str, Any]]] = content
        for data, entries in content.items():
            for entry in entries:
                missing = _KEYS - entry.keys()
                if missing:
                    raise UserError(f"{path}: {data}: {entry.get('system', entry)} has no {sorted(missing)[0]}")

    def published(self, data: str, metrics: Sequence[str] = _METRICS) -> str:
        """A table of what was published on a data set, in the order of the file.

        Raises:
            UserError: the file has nothing of the data set.
        """
        if data not in self.content:
            hint = nearest(data, self.content)
            raise UserError(f"{self.path}: nothing published on {data}{f'; did you mean {hint}?' if hint else ''}")
        rows = [
            [
                entry["system"],
                *(number(entry["metrics"].get(metric)) for metric in metrics),
                entry["split"],
                entry["source"],
            ]
            for entry in self.content[data]
        ]
        columns = ["published", *(heading(metric) for metric in metrics), "split", "source"]
        return markdown_table(columns, rows, (0, len(columns) - 2, len(columns) - 1))


# Figures of the benchmarks: the last line of JSON that each prints, what it aims at, and the table of both.


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
            raise UserError(f"{described}: is not a mapping of rooms to figures")
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
            raise UserError(f"{path}: is not a record of a benchmark") from None
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
            figures = json.loads(line)
        except ValueError:
            continue
        if isinstance(figures, dict) and figures:
            return figures
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


# ``docs/results.md``: templates that people write, with tables that nobody types.


_FIRST = "<!-- written by `python -m scripts.results build` from docs/results/; changes here are lost -->"


def render_page(folder: Path) -> str:
    """The page.

    Args:
        folder: ``*.md.j2`` in the order of their names, ``records/``, ``benchmarks/``, ``benchmarks.yaml`` and
            ``published.yaml``.

    Raises:
        UserError: a template asks for what is not there.
    """
    templates = sorted(folder.glob("*.md.j2"))
    if not templates:
        raise UserError(f"{folder}: no templates (*.md.j2); the command runs in the project's folder", exit_code=2)
    runs = RunTables(RunStore(folder / "records"))
    benchmarks = BenchmarkStore(folder / "benchmarks", folder / "benchmarks.yaml")
    published = PublishedNumbers(folder / "published.yaml")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - Markdown, of our own files
    for function in (
        runs.table,
        runs.systems,
        runs.value,
        runs.users,
        runs.gains,
        runs.effort,
        runs.curve,
        runs.runs,
        benchmarks.benchmark,
        published.published,
    ):
        environment.globals[function.__name__] = function
    parts = [_rendered(environment, template) for template in templates]
    return "\n\n".join([_FIRST, *parts]) + "\n"


def check_page(page: Path, rendered: str) -> None:
    """Whether the file says what its records say.

    Raises:
        UserError: with the first line that differs.
    """
    if not page.is_file():
        raise UserError(f"{page}: is not there; python -m scripts.results build writes it")
    content, wanted = page.read_text(encoding="utf-8"), rendered
    if content == wanted:
        return
    lines, others = content.split("\n"), wanted.split("\n")
    at = next(
        (at for at, (line, other) in enumerate(zip(lines, others, strict=False)) if line != other),
        min(len(lines), len(others)),
    )
    has = repr(lines[at]) if at < len(lines) else "nothing more"
    wants = repr(others[at]) if at < len(others) else "nothing more"
    raise UserError(
        f"{page}:{at + 1}: has {has}, the records give {wants}; python -m scripts.results build writes it anew"
    )


def _rendered(environment: Environment, template: Path) -> str:
    try:
        return environment.from_string(template.read_text(encoding="utf-8")).render().strip()
    except UserError as error:
        raise UserError(f"{template}: {error}", error.exit_code) from None
    except TemplateSyntaxError as error:
        raise UserError(f"{template}:{error.lineno}: {error.message}") from None
    except (TemplateError, TypeError) as error:
        raise UserError(f"{template}: {error}") from None
