"""A reliability plot: what a classifier promised against what came true, as coordinates that the template draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["LARGEST", "SIDE", "Point", "reliability_points"]

SIDE = 180.0
"""Side of the square plotting area in the units of the SVG."""
LARGEST = 7.0
"""Radius of the point with the most weight."""
_SMALLEST = 2.0


@dataclass(frozen=True)
class Point:
    """A bin, ready to be drawn: its area is in proportion to its weight, down to a size that can be seen."""

    x: str
    y: str
    radius: str
    says: str
    """What it stands for, in words."""


def reliability_points(bins: Iterable[Any]) -> list[Point]:
    """Points of bins; y grows upwards on the page, so that promises kept lie on the rising diagonal.

    Args:
        bins: mappings with ``predicted`` and ``observed`` in [0, 1] and a ``weight``; others are left out.
    """
    read = [found for each in bins if (found := _read(each)) is not None]
    heaviest = max((weight for *_, weight in read), default=1.0)
    total = sum(weight for *_, weight in read)
    return [
        Point(
            _unit(predicted * SIDE),
            _unit((1 - observed) * SIDE),
            _unit(max(_SMALLEST, LARGEST * math.sqrt(weight / heaviest))),
            f"predicted {predicted:.3f}, observed {observed:.3f}, weight {weight / total:.1%}",
        )
        for predicted, observed, weight in read
    ]


def _read(each: Any) -> tuple[float, float, float] | None:
    if not isinstance(each, Mapping):
        return None
    try:
        predicted, observed, weight = (float(each[name]) for name in ("predicted", "observed", "weight"))
    except (KeyError, TypeError, ValueError):
        return None
    fits = 0 <= predicted <= 1 and 0 <= observed <= 1 and 0 < weight < math.inf  # NaN fits nowhere
    return (predicted, observed, weight) if fits else None


def _unit(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
