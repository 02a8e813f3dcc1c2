"""Values of a parameter as places on an axis: steps where there are few, else a scale of numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dig.sweeps.results import TrialRow

__all__ = ["Axis", "axis_of"]

_STEPS = 8
"""Different values up to which each is a step of its own."""
_BINS = 6


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        name: of the parameter.
        steps: its labels from the lowest; empty where it is a scale.
        low: least number of a scale.
        high: largest number of a scale.
        log: whether the scale is logarithmic.
    """

    name: str
    steps: tuple[str, ...]
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    def place(self, value: Any) -> float:
        """Where a value lies, from 0 to 1."""
        if self.steps:
            return self.steps.index(label(value)) / max(1, len(self.steps) - 1) if len(self.steps) > 1 else 0.5
        low, high, found = (math.log(each) if self.log else each for each in (self.low, self.high, float(value)))
        return (found - low) / (high - low)

    def cell(self, value: Any) -> str:
        """The step, or the part of the scale, that a value falls into."""
        return label(value) if self.steps else self._cells()[min(int(self.place(value) * _BINS), _BINS - 1)]

    @property
    def cells(self) -> list[str]:
        """All of them, from the lowest."""
        return list(self.steps) if self.steps else self._cells()

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels to be written beside the axis."""
        if self.steps:
            last = max(1, len(self.steps) - 1)
            return [(place / last if len(self.steps) > 1 else 0.5, text) for place, text in enumerate(self.steps)]
        return [(share, f"{self._at(share):.3g}") for share in (0.0, 0.5, 1.0)]

    def _at(self, share: float) -> float:
        if self.log:
            return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        return self.low + share * (self.high - self.low)

    def _cells(self) -> list[str]:
        return [f"{self._at(part / _BINS):.3g} to {self._at((part + 1) / _BINS):.3g}" for part in range(_BINS)]


def axis_of(name: str, rows: Sequence[TrialRow]) -> Axis:
    """The axis of a parameter, as the trials have it."""
    values = [row.point[name] for row in rows if name in row.point]
    distinct = {label(value): value for value in values}
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if numbers and len(distinct) > _STEPS:
        low, high = float(min(values)), float(max(values))
        return Axis(name, (), low, high, log=low > 0 and high / low > 50)
    order = sorted(distinct, key=lambda text: distinct[text]) if numbers else list(distinct)
    return Axis(name, tuple(order))


def label(value: Any) -> str:
    """A value as it is written."""
    if isinstance(value, float):
        return f"{value:.5g}"
    return value if isinstance(value, str) else json.dumps(value)
