"""Learning curves: rows of a stage's log to lines, and their plots."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

from dig.report.plots import Legend, Plot, colour_variable, plotted, rounded

__all__ = ["CurvePlot", "Line", "curve_plots", "log_lines", "thinned", "lines_plot"]


_AXES = ("step", "epoch")
_MAX_POINTS = 240
_LOG_SPAN = 50.0
"""Positive values that span more than this are told apart on a logarithmic axis alone."""
_SHARED = ("train", "valid")
"""Parts whose metrics of one name are two views of one thing."""
_ABBREVIATIONS = ("hr", "ndcg", "mrr", "kl")
_NUMBERED = re.compile(r"(?P<name>.+?)(?P<tail>@\d+|_\d+|/pg\d+)")


@dataclass(frozen=True)
class Line:
    """A line of a plot.

    Attributes:
        name: what tells it from the other lines, empty where it is alone.
        points: x and y in order of x; y is None where it was not finite, which interrupts the line.
    """

    name: str
    points: list[tuple[float, float | None]]


@dataclass(frozen=True)
class CurvePlot:
    """Lines that share a plot."""

    title: str
    lines: list[Line]
    log: bool
    """Whether a logarithmic axis helps."""
    note: str = ""


def log_lines(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Points by metric, in order of the step (else the epoch, else the row).

    Where a step was logged twice, as by an attempt that was killed and the one that continued, the later row counts.

    Args:
        rows: rows of the CSV log. Keys may be missing, or None or empty, where nothing was logged; NaN is a value.
    """
    values: dict[str, dict[float, float]] = {}
    for index, row in enumerate(rows):
        x = next((at for axis in _AXES if (at := _number(row.get(axis))) is not None), float(index))
        if not math.isfinite(x):
            continue
        for name, value in row.items():
            if name not in _AXES and (y := _number(value)) is not None:
                values.setdefault(name, {})[x] = y
    return {name: sorted(points.items()) for name, points in values.items()}


def curve_plots(lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[CurvePlot]:
    """Metrics that are views of one thing in one plot: train and valid, cut-offs, levels; losses first."""
    together: dict[str, list[str]] = {}
    for name in lines:
        together.setdefault(_title(name), []).append(name)
    plots = []
    for title in sorted(together, key=lambda title: ("loss" not in title, title)):
        names = sorted(together[title], key=_natural)
        parts = {name.partition("/")[0] for name in names}
        drawn = [
            Line(_line_name(name, len(parts) > 1) if len(names) > 1 else "", thinned(lines[name])) for name in names
        ]
        values = [y for name in names for _, y in lines[name]]
        finite = [y for y in values if math.isfinite(y)]
        log = bool(finite) and min(finite) > 0 and max(finite) / min(finite) > _LOG_SPAN
        lost = len(values) - len(finite)
        plots.append(CurvePlot(title, drawn, log, f"{lost} of {len(values)} values not finite" if lost else ""))
    return plots


def thinned(points: Sequence[tuple[float, float]], most: int = _MAX_POINTS) -> list[tuple[float, float | None]]:
    """This many points at most; every section keeps its lowest and highest value, and one that is not finite."""
    size = math.ceil(3 * len(points) / most) if len(points) > most else 1
    thin: list[tuple[float, float | None]] = []
    for start in range(0, len(points), size):
        section = range(start, min(start + size, len(points)))
        broken = [at for at in section if not math.isfinite(points[at][1])]
        whole = [at for at in section if math.isfinite(points[at][1])]
        extremes = {pick(whole, key=lambda at: points[at][1]) for pick in (min, max)} if whole else set()
        thin += [
            (points[at][0], points[at][1] if math.isfinite(points[at][1]) else None)
            for at in sorted(extremes | set(broken[:1]))
        ]
    return thin


def _title(name: str) -> str:
    part, _, rest = name.rpartition("/") if "/pg" not in name else ("", "", name)
    base = numbered["name"] if (numbered := _NUMBERED.fullmatch(rest)) else rest
    if base.startswith("lr-"):
        return "learning rate"
    shown = base.upper() if base in _ABBREVIATIONS else base.replace("_", " ")
    return shown if part in _SHARED or not part else f"{part} {shown}"


def _line_name(name: str, with_part: bool) -> str:
    part = name.partition("/")[0]
    numbered = _NUMBERED.fullmatch(name)
    tail = numbered["tail"] if numbered else ""
    if name.startswith("lr-"):
        return f"group {tail.removeprefix('/pg')}" if tail else name
    shown = f"level {tail[1:]}" if tail.startswith("_") else tail
    return f"{part} {shown}".strip() if with_part or not shown else shown


def _natural(name: str) -> tuple[Any, ...]:
    return tuple(int(each) if each.isdigit() else each for each in re.split(r"(\d+)", name))


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


# Learning curves and other lines over steps, to be read by pointing at them and to be zoomed into.


_COLOURS = (4, 5, 2, 1, 3, 6, 7, 0)
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
_HEIGHT = 150
_ZOOM = "wheel![event.shiftKey]"  # the wheel alone scrolls the page


def lines_plot(curves: CurvePlot) -> Plot:
    """The lines of a plot with tooltips; dragging moves along the axis, shift and wheel zoom, a double click resets."""
    from altair.utils import schemapi

    names = [line.name or curves.title for line in curves.lines]
    rows = [
        {"x": rounded(x), "y": None if y is None else rounded(y), "line": name}
        for name, line in zip(names, curves.lines, strict=True)
        for x, y in line.points
    ]
    level = len({row["y"] for row in rows} - {None}) < 2  # an axis around a single value would have no ticks
    shape = deepcopy(_shape(len(names), curves.log, level, len(rows) <= len(names), schemapi.DEBUG_MODE))
    for layer in shape["layer"]:
        for channel in ("color", "strokeDash"):
            if channel in layer["encoding"]:
                layer["encoding"][channel]["scale"]["domain"] = list(names)
    spec = shape | {"description": f"{curves.title} over steps", "data": {"values": rows}}
    legend = [
        Legend(name, colour, _mark(place))
        for place, (name, colour) in enumerate(zip(names, _colours(len(names)), strict=True))
    ]
    scaled = "logarithmic axis" if curves.log else ""
    note = " · ".join(filter(None, (scaled, curves.note)))
    return Plot(curves.title, spec, note, legend if len(names) > 1 else ())


@cache
def _shape(count: int, log: bool, level: bool, dots: bool, checked: bool) -> dict[str, Any]:
    """The specification of this many lines without their names and points.

    A run has dozens of these plots in a few shapes, and Altair takes longer over each than a browser does.

    Args:
        count: of lines.
        log: a logarithmic axis.
        level: all values are one.
        dots: points are shown without being pointed at.
        checked: whether Altair held it to the schema, as it was told while this was called.
    """
    import altair as alt

    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=level)
    named = [str(place) for place in range(count)]
    colours = list(map(colour_variable, _colours(count)))
    base = alt.Chart().encode(
        x=alt.X("x:Q", title="step", scale=alt.Scale(nice=False), axis=alt.Axis(grid=False)),
        y=alt.Y("y:Q", title=None, scale=scale, axis=alt.Axis()),
        color=alt.Color("line:N", scale=alt.Scale(domain=named, range=colours)),
    )
    dashes = [_DASHES[place % len(_DASHES)] for place in range(count)]
    zoom = alt.selection_interval(bind="scales", encodings=["x"], zoom=_ZOOM, name="zoom")
    lines = base.mark_line(strokeWidth=1.75, clip=True, invalid="break-paths-filter-domains").encode(
        strokeDash=alt.StrokeDash("line:N", scale=alt.Scale(domain=named, range=dashes))
    )
    near = alt.selection_point(on="pointerover", nearest=True, fields=["x"], empty=False, name="near")
    points = (
        base.mark_point(filled=True, size=45, clip=True)
        .encode(
            opacity=alt.condition(near, alt.value(1), alt.value(0.9 if dots else 0)),
            tooltip=[
                alt.Tooltip("line:N", title="line"),
                alt.Tooltip("x:Q", title="step", format=",~f"),
                alt.Tooltip("y:Q", title="value", format=".4~g"),
            ],
        )
        .add_params(near)
    )
    return plotted(alt.layer(lines.add_params(zoom), points), [], _HEIGHT, "")


def _colours(count: int) -> list[int]:
    return [_COLOURS[place % len(_COLOURS)] for place in range(count)]


def _mark(place: int) -> str:
    return "line" if place % len(_DASHES) == 0 else "dash"
