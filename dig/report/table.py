"""The table of metrics: stages as rows, metrics as columns, the best of a column in bold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

__all__ = [
    "Cell",
    "MetricsGrid",
    "metrics_grid",
    "metrics_markdown",
    "metrics_table",
    "slices_grid",
    "split_names",
]

_FAMILIES = ("hr", "ndcg", "mrr")


@dataclass(frozen=True)
class Cell:
    """A number as it is shown."""

    text: str
    best: bool


@dataclass(frozen=True)
class MetricsGrid:
    """A table before it is drawn."""

    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


def metrics_grid(metrics: Mapping[str, Mapping[str, Any]], split: str) -> MetricsGrid:
    """Stages that have the split, in their order, against the metrics that any of them has; higher is better.

    Numbers have four decimals; one that is missing or not finite is a dash. The best is marked where at least two
    stages have a number, all of them at a tie of what is shown.
    """
    stages = {stage: values[split] for stage, values in metrics.items() if isinstance(values.get(split), Mapping)}
    columns = sorted({name for values in stages.values() for name in values}, key=_column_order)
    best = {}
    for name in columns:
        finite = [number for values in stages.values() if (number := _finite(values.get(name))) is not None]
        if len(finite) > 1:
            best[name] = _shown(max(finite))
    rows = []
    for stage, values in stages.items():
        texts = {name: _shown(_finite(values.get(name))) for name in columns}
        rows.append((stage, [Cell(text, text == best.get(name)) for name, text in texts.items()]))
    return MetricsGrid(columns, rows)


def metrics_table(metrics: Mapping[str, Mapping[str, Any]], split: str = "test") -> Table:
    """The table for the screen, of the content of ``metrics.json``."""
    grid = metrics_grid(metrics, split)
    table = Table(title=" · ".join([split, *split_names(metrics)]))
    table.add_column("stage")
    for name in grid.columns:
        table.add_column(escape(name), justify="right")
    for stage, cells in grid.rows:
        table.add_row(escape(stage), *(f"[bold]{cell.text}[/bold]" if cell.best else cell.text for cell in cells))
    return table


def metrics_markdown(metrics: Mapping[str, Mapping[str, Any]], split: str = "test") -> str:
    """The same table in Markdown, ending with a newline."""
    grid = metrics_grid(metrics, split)
    names = split_names(metrics)
    corner = f"stage ({' · '.join([split, *names])})" if names else "stage"
    lines = [f"| {corner} | " + " | ".join(grid.columns) + " |", "|---|" + "---:|" * len(grid.columns)]
    for stage, cells in grid.rows:
        lines.append(
            "| " + " | ".join([stage, *(f"**{cell.text}**" if cell.best else cell.text for cell in cells)]) + " |"
        )
    return "\n".join(lines) + "\n"


def split_names(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How the data were split, as ``metrics.json`` names it; several names if its stages differ."""
    return list(dict.fromkeys(str(values["split"]) for values in metrics.values() if values.get("split")))


def slices_grid(metrics: Mapping[str, Mapping[str, Any]], part: str, metric: str) -> MetricsGrid:
    """Slices with their number of examples against stages, for one metric; the best stage of a slice is marked."""
    found = {stage: values["slices"][part] for stage, values in metrics.items() if part in values.get("slices", {})}
    names = list(dict.fromkeys(name for slices in found.values() for name in slices))
    rows = []
    for name in names:
        numbers = {stage: _finite(slices.get(name, {}).get(metric)) for stage, slices in found.items()}
        finite = [number for number in numbers.values() if number is not None]
        best = _shown(max(finite)) if len(finite) > 1 else None
        cells = [Cell(text := _shown(number), text == best) for number in numbers.values()]
        count = max(int(slices[name]["examples"]) for slices in found.values() if name in slices)
        rows.append((name, [Cell(f"{count:,}", False), *cells]))
    return MetricsGrid(["examples", *found], rows)


def _column_order(name: str) -> tuple[int, str, int, str]:
    """HR by K, then NDCG by K, then MRR, then whatever else there is by name."""
    family, _, cutoff = name.lower().partition("@")
    rank = _FAMILIES.index(family) if family in _FAMILIES else len(_FAMILIES)
    return rank, family, int(cutoff) if cutoff.isdecimal() else 0, name


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _shown(number: float | None) -> str:
    return "—" if number is None else f"{number:.4f}"
