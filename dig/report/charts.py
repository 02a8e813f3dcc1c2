"""Learning curves as small line charts: a row of the log to the coordinates that the template draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["HEIGHT", "WIDTH", "Chart", "charts_of", "line_chart"]

WIDTH, HEIGHT = 300.0, 120.0
"""Size of the plotting area in the units of the SVG."""
_AXES = ("step", "epoch")
_MAX_POINTS = 400


@dataclass(frozen=True)
class Chart:
    """A chart that is ready to be drawn."""

    title: str
    lines: list[str]
    """Point lists of polylines; a value that is not finite ends one."""
    dots: list[tuple[str, str]]
    """Points that have no neighbour to be joined with."""
    x_range: tuple[str, str]
    y_range: tuple[str, str]
    last: str
    note: str = ""


def charts_of(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A chart a metric of a stage's log, by name; losses first.

    Where a step was logged twice, as by an attempt that was killed and the one that went on, the later row counts.

    Args:
        rows: rows of the CSV log. Keys may be missing, or None or empty, where nothing was logged; NaN is a value.
    """
    names = {name for row in rows for name in row if name not in _AXES}
    charts = []
    for name in sorted(names, key=lambda name: ("loss" not in name, name)):
        points = {}
        for index, row in enumerate(rows):
            y = _number(row.get(name))
            if y is not None:
                x = next((at for axis in _AXES if (at := _number(row.get(axis))) is not None), float(index))
                points[x] = y
        if points:
            charts.append(line_chart(name, points.items()))
    return charts


def line_chart(title: str, points: Iterable[tuple[float, float]]) -> Chart:
    """Scales points into the plotting area; y grows upwards on the page.

    Points are taken in order of x. Values that are not finite interrupt the line and are counted in the note. Long
    curves are thinned, keeping every section's lowest and highest value.
    """
    points = sorted((point for point in points if math.isfinite(point[0])), key=lambda point: point[0])
    finite = [point for point in points if math.isfinite(point[1])]
    missing = len(points) - len(finite)
    note = f"{missing} of {len(points)} values not finite" if missing else ""
    if not finite:
        return Chart(title, [], [], ("", ""), ("", ""), "—", note or "no values")
    xs, ys = [x for x, _ in finite], [y for _, y in finite]
    low, high = min(ys), max(ys)

    def place(x: float, y: float) -> tuple[str, str]:
        return _unit(_share(x, xs[0], xs[-1]) * WIDTH), _unit((1 - _share(y, low, high)) * HEIGHT)

    lines, dots = [], []
    for segment in _segments(_thin(points)):
        placed = [place(x, y) for x, y in segment]
        if len(placed) == 1:
            dots.append(placed[0])
        else:
            lines.append(" ".join(f"{x},{y}" for x, y in placed))
    return Chart(title, lines, dots, (_label(xs[0]), _label(xs[-1])), (_label(low), _label(high)), _label(ys[-1]), note)


def _segments(points: Iterable[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    segments: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            segments[-1].append(point)
        elif segments[-1]:
            segments.append([])
    return [segment for segment in segments if segment]


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= _MAX_POINTS:
        return points
    size = math.ceil(2 * len(points) / _MAX_POINTS)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        section = range(start, min(start + size, len(points)))
        broken = [at for at in section if not math.isfinite(points[at][1])]
        whole = [at for at in section if math.isfinite(points[at][1])]
        extremes = {pick(whole, key=lambda at: points[at][1]) for pick in (min, max)} if whole else set()
        kept.extend(points[at] for at in sorted(extremes | set(broken[:1])))
    return kept


def _share(value: float, low: float, high: float) -> float:
    """Position between the two, the middle where they are equal; safe for spans that overflow."""
    if high == low:
        return 0.5
    return (value / 2 - low / 2) / (high / 2 - low / 2)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _unit(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _label(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e7 else f"{value:.4g}"
