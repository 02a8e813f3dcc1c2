"""The protocols under which a run was measured: with or without the items of the history in the ranking."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Protocol", "cutoffs", "finite", "interval_bounds", "main_cutoff", "main_metric", "protocols", "values_of"]

_KEPT = ("history kept", "Items of the history stay in the ranking, as they do in most papers.")
_MASKED = ("history masked", "Items of the history are left out of the ranking.")
_UNKNOWN = ("test", "")


@dataclass(frozen=True)
class Protocol:
    """A protocol.

    Attributes:
        key: of its numbers in ``metrics.json``.
        name: in words.
        says: a sentence.
    """

    key: str
    name: str
    says: str


def protocols(metrics: Mapping[str, Mapping[str, Any]]) -> list[Protocol]:
    """The protocols that any recommender was tested under, the run's own first."""
    keys = [
        key
        for key in ("test", "test_masked", "test_unmasked")
        if any(isinstance(values.get(key), Mapping) for values in metrics.values())
    ]
    masked = next((values["mask_history"] for values in metrics.values() if "mask_history" in values), None)
    found = {
        "test": _UNKNOWN if masked is None else _MASKED if masked else _KEPT,
        "test_masked": _MASKED,
        "test_unmasked": _KEPT,
    }
    return [Protocol(key, *found[key]) for key in keys]


def values_of(metrics: Mapping[str, Mapping[str, Any]], part: str) -> dict[str, Mapping[str, Any]]:
    """The numbers of a part by recommender; those that have none are left out."""
    return {name: values[part] for name, values in metrics.items() if isinstance(values.get(part), Mapping)}


def cutoffs(metrics: Mapping[str, Mapping[str, Any]], family: str, part: str = "test") -> list[int]:
    """The cut-offs that a family of metrics was measured at, in order."""
    names = {name for values in values_of(metrics, part).values() for name in values}
    found = (name.partition("@") for name in names)
    return sorted({int(at) for head, _, at in found if head == family and at.isdecimal()})


def main_cutoff(metrics: Mapping[str, Mapping[str, Any]]) -> int:
    """The largest cut-off of the hit rate, 10 where none was measured."""
    return max(cutoffs(metrics, "hr"), default=10)


def main_metric(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """NDCG at its largest cut-off, else whatever was measured first; empty where nothing was."""
    found = cutoffs(metrics, "ndcg")
    if found:
        return f"ndcg@{found[-1]}"
    return next((name for values in values_of(metrics, "test").values() for name in values), "")


def finite(value: Any) -> float | None:
    """A number, or None for what is missing or none."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def interval_bounds(values: Mapping[str, Any], part: str, metric: str) -> tuple[float, float] | None:
    """The 95 % interval of a recommender's metric; None where it has none."""
    found: Any = values.get("intervals")
    for key in (part, metric):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        return None
    low, high = map(finite, found)
    return None if low is None or high is None else (low, high)
