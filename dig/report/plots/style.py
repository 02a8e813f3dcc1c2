"""What all plots share: colours by CSS variable, so that both themes and the printer have their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dig.config import RECOMMENDERS
from dig.config.recommenders import COLOURS

__all__ = ["COLOURS", "CONFIG", "Legend", "Plot", "colour_index", "colour_variable", "plotted", "rounded"]


_QUIET = {"labelColor": "var(--soft)", "titleColor": "var(--soft)"}
CONFIG: dict[str, Any] = {
    "background": None,
    "padding": {"left": 5, "top": 5, "right": 16, "bottom": 5},  # half of the last label of an axis lies beyond it
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **_QUIET,
        "gridColor": "var(--grid)",
        "domainColor": "var(--axis)",
        "tickColor": "var(--axis)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 150,
        "tickCount": 4,
        "labelOverlap": "greedy",
        "labelSeparation": 4,
    },
    "axisX": {"labelFlush": False},
    "axisBand": {"grid": False},
    "axisPoint": {"grid": False},
    "legend": {"disable": True},
}
"""Configuration of every plot; legends stand in the page, where they wrap on a phone."""


class Legend(NamedTuple):
    """An entry of a legend: its words, the number of its colour, and its mark (dot, ring, line, dash)."""

    name: str
    colour: int
    mark: str = "dot"


@dataclass(frozen=True)
class Plot:
    """A plot and what stands around it."""

    title: str
    spec: dict[str, Any]
    note: str = ""
    legend: Sequence[Legend] = field(default=())


def colour_index(name: str, others: Sequence[str] = ()) -> int:
    """The colour of a recommender, the number of a variable ``--s0`` … of the style sheet: the one that it has in every
    plot, or else one that none of the ``others`` has."""
    chosen = {each: spec.colour for each, spec in RECOMMENDERS.items() if spec.colour is not None}
    if name in chosen:
        return chosen[name]
    taken = {chosen[each] for each in others if each in chosen}
    left = [colour for colour in range(COLOURS) if colour not in taken] or list(range(COLOURS))
    unknown = [each for each in others if each not in chosen]
    place = unknown.index(name) if name in unknown else 0
    return left[place % len(left)]


def colour_variable(index: int) -> str:
    """A colour as the style sheet names it."""
    return f"var(--s{index % COLOURS})"


def plotted(chart: Any, rows: Iterable[Mapping[str, Any]], height: int, description: str) -> dict[str, Any]:
    """The specification of a chart over rows, as wide as its place in the page.

    Args:
        chart: an Altair chart whose data are left open.
        rows: its data.
        height: of the plotting area in pixels.
        description: what the plot shows, for those who hear it.
    """
    from altair.utils import schemapi

    spec: dict[str, Any] = chart.properties(
        width="container", height=height, autosize={"type": "fit-x", "contains": "padding"}
    ).to_dict(validate=schemapi.DEBUG_MODE)  # off where a whole report is made, see render_report
    for unused in ("$schema", "config", "datasets"):
        spec.pop(unused, None)
    for layer in spec.get("layer", ()):
        if layer.get("data") == {"name": "empty"}:  # what Altair writes for data that are left open
            del layer["data"]
    return spec | {"description": description, "data": {"values": list(rows)}}


def rounded(value: float) -> float:
    """A number to draw: five significant digits."""
    return float(f"{value:.5g}")
