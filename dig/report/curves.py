"""Learning curves: rows of a stage's log to the lines that belong into one plot."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["CurvePlot", "Line", "curve_plots", "log_lines", "thinned"]

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

    Where a step was logged twice, as by an attempt that was killed and the one that went on, the later row counts.

    Args:
        rows: rows of the CSV log. Keys may be missing, or None or empty, where nothing was logged; NaN is a value.
    """
    found: dict[str, dict[float, float]] = {}
    for index, row in enumerate(rows):
        x = next((at for axis in _AXES if (at := _number(row.get(axis))) is not None), float(index))
        if not math.isfinite(x):
            continue
        for name, value in row.items():
            if name not in _AXES and (y := _number(value)) is not None:
                found.setdefault(name, {})[x] = y
    return {name: sorted(points.items()) for name, points in found.items()}


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
    """So many points at most; every section keeps its lowest and highest value, and one that is not finite."""
    size = math.ceil(3 * len(points) / most) if len(points) > most else 1
    kept: list[tuple[float, float | None]] = []
    for start in range(0, len(points), size):
        section = range(start, min(start + size, len(points)))
        broken = [at for at in section if not math.isfinite(points[at][1])]
        whole = [at for at in section if math.isfinite(points[at][1])]
        extremes = {pick(whole, key=lambda at: points[at][1]) for pick in (min, max)} if whole else set()
        kept += [
            (points[at][0], points[at][1] if math.isfinite(points[at][1]) else None)
            for at in sorted(extremes | set(broken[:1]))
        ]
    return kept


def _title(name: str) -> str:
    part, _, rest = name.rpartition("/") if "/pg" not in name else ("", "", name)
    base = found["name"] if (found := _NUMBERED.fullmatch(rest)) else rest
    if base.startswith("lr-"):
        return "learning rate"
    shown = base.upper() if base in _ABBREVIATIONS else base.replace("_", " ")
    return shown if part in _SHARED or not part else f"{part} {shown}"


def _line_name(name: str, with_part: bool) -> str:
    part = name.partition("/")[0]
    found = _NUMBERED.fullmatch(name)
    tail = found["tail"] if found else ""
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
