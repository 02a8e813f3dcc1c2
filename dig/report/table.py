"""The table of metrics: stages as rows, how well they rank as columns, the best of a column in bold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from dig.report.formats import finite, interval, interval_bounds, protocols

__all__ = [
    "ACCURACY",
    "Cell",
    "MetricsGrid",
    "metrics_grid",
    "metrics_markdown",
    "metrics_table",
    "split_names",
]

ACCURACY = ("hr", "ndcg", "mrr")
"""Families of metrics that say how well targets are ranked; of these, more is better."""


@dataclass(frozen=True)
class Cell:
    """A number as it is shown."""

    text: str
    best: bool
    interval: str = ""
    """Its 95 % interval, where it is known."""


@dataclass(frozen=True)
class MetricsGrid:
    """A table before it is drawn."""

    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


def metrics_grid(metrics: Mapping[str, Mapping[str, Any]], split: str) -> MetricsGrid:
    """Stages that have the split, in their order, against the metrics of accuracy that any of them has.

    Numbers have four decimals; one that is missing or not finite is a dash. The best is marked where at least two
    stages have a number, all of them at a tie of what is shown.
    """
    stages = {stage: values[split] for stage, values in metrics.items() if isinstance(values.get(split), Mapping)}
    names = {name for values in stages.values() for name in values}
    columns = sorted((name for name in names if _family(name) in ACCURACY), key=_column_order)
    best = {}
    for name in columns:
        numbers = [number for values in stages.values() if (number := finite(values.get(name))) is not None]
        if len(numbers) > 1:
            best[name] = _shown(max(numbers))
    rows = []
    for stage, values in stages.items():
        texts = {name: _shown(finite(values.get(name))) for name in columns}
        rows.append(
            (
                stage,
                [
                    Cell(text, text == best.get(name), interval(interval_bounds(metrics[stage], split, name)))
                    for name, text in texts.items()
                ],
            )
        )
    return MetricsGrid(columns, rows)


def metrics_table(metrics: Mapping[str, Mapping[str, Any]], split: str = "test") -> Table:
    """The table for the screen, of the content of ``metrics.json``."""
    grid = metrics_grid(metrics, split)
    table = Table(title=" · ".join(_titles(metrics, split)))
    table.add_column("stage")
    for name in grid.columns:
        table.add_column(escape(name), justify="right")
    for stage, cells in grid.rows:
        table.add_row(escape(stage), *(f"[bold]{cell.text}[/bold]" if cell.best else cell.text for cell in cells))
    return table


def _titles(metrics: Mapping[str, Mapping[str, Any]], split: str) -> list[str]:
    """The part, how it was split, and whether histories compete."""
    protocol = next((each for each in protocols(metrics) if each.key == split), None)
    shown = [protocol.name] if protocol and protocol.description else []
    return [split.partition("_")[0], *split_names(metrics), *shown]


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


def _family(name: str) -> str:
    return name.lower().partition("@")[0]


def _column_order(name: str) -> tuple[int, str, int, str]:
    """HR by K, then NDCG by K, then MRR, then whatever else there is by name."""
    family, _, cutoff = name.lower().partition("@")
    rank = ACCURACY.index(family) if family in ACCURACY else len(ACCURACY)
    return rank, family, int(cutoff) if cutoff.isdecimal() else 0, name


def _shown(number: float | None) -> str:
    return "—" if number is None else f"{number:.4f}"
