"""The tables on the terminal and in ``docs/reliability.md``, which is made of ``docs/reliability.json``."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
import textwrap
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from faults.commands import ROOT
from faults.verdicts import Figures

__all__ = ["page_text", "print_figures", "write_page"]

_RESULTS, _PAGE = ROOT / "docs" / "reliability.json", ROOT / "docs" / "reliability.md"
_PACKAGES = ("torch", "lightning", "transformers", "polars", "safetensors")
_HEADINGS = ("what was done", "times", "what happened", "exit codes", "longest", "lost")
_WIDTH = 100
_HEAD = """# Faults as figures

Made by `make test-faults`; not written by hand. Each part damages, fills, kills or refuses
something, on small shops of the quickstart's kind and on the quickstart itself, and counts what
happened. Words in capitals are failures, and each is listed below its table as it came.
`PYTHONPATH=tests .venv/bin/python -m faults --only PART --small` takes a quick look at a part.

"as undisturbed": exit code 0 and the answer or the metrics of a run that nobody disturbs. "refused
in one line": exit code 1 or 2, and one line that begins with `error:`.
"""


def print_figures(figures: Figures) -> None:
    """Prints a part's table, and what went wrong."""
    console = Console(width=160, highlight=False)
    table = Table(title=f"{figures.part}: {figures.title} ({figures.seconds:.0f} s)", title_justify="left")
    for heading in _HEADINGS:
        table.add_column(heading)
    for cells in _cells(figures):
        table.add_row(*cells)
    console.print(table)
    for line in (figures.skipped, *figures.remarks, *figures.bad):
        if line:
            console.print(line, markup=False, soft_wrap=True)


def write_page(results: Sequence[Figures], seed: int, small: bool) -> None:
    """Keeps the results of these parts beside those of the others, and writes the page of all."""
    kept: dict[str, Any] = json.loads(_RESULTS.read_text(encoding="utf-8")) if _RESULTS.is_file() else {}
    for figures in results:
        kept[figures.part] = {"origin": {**_origin(seed), "small": small}, **figures.to_dict()}
    _RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    _PAGE.write_text(page_text(kept), encoding="utf-8")


def page_text(kept: dict[str, Any]) -> str:
    """The page of the results of all parts."""
    from faults.__main__ import PARTS

    sections = [_HEAD]
    for part in (part for part in PARTS if part in kept):
        content = dict(kept[part])
        origin = content.pop("origin")
        figures = Figures.from_dict(content)
        look = ", a quick look" if origin["small"] else ""
        how = f"Part `{part}`{look}, {figures.seconds:.0f} s, seed {origin['seed']}"
        where = f"commit {origin['commit']}, {origin['machine']}, {origin['versions']}"
        title = f"## {figures.title[0].upper()}{figures.title[1:]}"
        lines = [title, "", _wrapped(f"{how}; {origin['date']}, {where}."), ""]
        if figures.skipped:
            lines += [_wrapped(f"Not run: {figures.skipped}"), ""]
        else:
            lines += [_line(_HEADINGS), _line(["---"] * len(_HEADINGS)), *map(_line, _cells(figures)), ""]
        lines += [f"{_wrapped(_plain(remark))}.  " for remark in figures.remarks] + [""] * bool(figures.remarks)
        lines += [_wrapped(f"- {_plain(line)}", "  ") for line in figures.bad] + [""] * bool(figures.bad)
        sections.append("\n".join(lines))
    return "\n".join(sections)


def _cells(figures: Figures) -> list[list[str]]:
    return [
        [row.done, str(row.times), _counts(row.verdicts), _counts(row.codes), f"{row.seconds:.1f} s", row.lost]
        for row in figures.rows
    ]


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _WIDTH - 3, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _plain(text: str) -> str:
    """Text in a cell or a list, without what Markdown or HTML would make of it."""
    return "".join(char if char.isprintable() else "?" for char in text).replace("|", "\\|").replace("<", "&lt;")


def _origin(seed: int) -> dict[str, Any]:
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return {
        "seed": seed,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip() or "unknown",
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": f"Python {platform.python_version()}, {versions}",
    }
