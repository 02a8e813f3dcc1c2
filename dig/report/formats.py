"""Numbers, times and names as the page writes them, and the protocols under which a run was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dig.config import RECOMMENDERS

__all__ = [
    "is_list",
    "listed",
    "mapping",
    "DASH",
    "duration",
    "interval",
    "metric_name",
    "number",
    "recommender_name",
    "shorten",
    "slug",
    "words",
    "ReportedProtocol",
    "cutoffs",
    "finite",
    "interval_bounds",
    "main_cutoff",
    "main_metric",
    "protocols",
    "values_of",
]


def is_list(value: Any) -> bool:
    """Whether a value is a sequence of values and no text."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def listed(value: Any) -> Sequence[Any]:
    """The value where it is a list, else an empty one."""
    return value if is_list(value) else []


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return dict(value) if isinstance(value, Mapping) else {}


# Numbers, times and names as the page writes them.


DASH = "—"
"""What stands for a number that is missing or is none."""
_METRICS = ("hr", "ndcg", "mrr")


def number(value: Any) -> str:
    """Whole numbers with separators, others with four significant digits, everything else as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{words(str(key))} {number(each)}" for key, each in value.items())
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds: Any) -> str:
    """Seconds in the units that people read: 0.4 s, 1 min 20 s, 2 h 5 min."""
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        return DASH
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def interval(bounds: tuple[float, float] | None) -> str:
    """Bounds with four decimals, empty where there are none."""
    return f"{bounds[0]:.4f}–{bounds[1]:.4f}" if bounds else ""


def words(key: str) -> str:
    """A key as people write it."""
    return key.replace("_", " ")


def metric_name(key: str) -> str:
    """A metric as papers write it: HR@10."""
    family, at, cutoff = key.partition("@")
    return (family.upper() if family in _METRICS else words(family)) + at + cutoff


def recommender_name(key: str) -> str:
    """A recommender as papers write it."""
    return RECOMMENDERS[key].title if key in RECOMMENDERS else words(key)


def shorten(text: str, limit: int) -> str:
    """The text, cut off with an ellipsis where it is longer; white space as single blanks."""
    text = " ".join(text[: 4 * limit].split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def slug(text: str) -> str:
    """A text as an anchor."""
    return "-".join("".join(each if each.isalnum() else " " for each in text.lower()).split())


# The protocols under which a run was measured: with or without the items of the history in the ranking.


_KEPT = ("history kept", "Items of the history stay in the ranking, as they do in most papers.")
_MASKED = ("history masked", "Items of the history are left out of the ranking.")
_UNKNOWN = ("test", "")


@dataclass(frozen=True)
class ReportedProtocol:
    """A protocol.

    Attributes:
        key: of its numbers in ``metrics.json``.
        name: in words.
        description: a sentence.
    """

    key: str
    name: str
    description: str


def protocols(metrics: Mapping[str, Mapping[str, Any]]) -> list[ReportedProtocol]:
    """The protocols that any recommender was tested under, the run's own first."""
    keys = [
        key
        for key in ("test", "test_masked", "test_unmasked")
        if any(isinstance(values.get(key), Mapping) for values in metrics.values())
    ]
    masked = next((values["mask_history"] for values in metrics.values() if "mask_history" in values), None)
    parts = {
        "test": _UNKNOWN if masked is None else _MASKED if masked else _KEPT,
        "test_masked": _MASKED,
        "test_unmasked": _KEPT,
    }
    return [ReportedProtocol(key, *parts[key]) for key in keys]


def values_of(metrics: Mapping[str, Mapping[str, Any]], part: str) -> dict[str, Mapping[str, Any]]:
    """The numbers of a part by recommender; those that have none are left out."""
    return {name: values[part] for name, values in metrics.items() if isinstance(values.get(part), Mapping)}


def cutoffs(metrics: Mapping[str, Mapping[str, Any]], family: str, part: str = "test") -> list[int]:
    """The cut-offs that a family of metrics was measured at, in order."""
    names = {name for values in values_of(metrics, part).values() for name in values}
    names_and_cutoffs = (name.partition("@") for name in names)
    return sorted({int(at) for head, _, at in names_and_cutoffs if head == family and at.isdecimal()})


def main_cutoff(metrics: Mapping[str, Mapping[str, Any]]) -> int:
    """The largest cut-off of the hit rate, 10 where none was measured."""
    return max(cutoffs(metrics, "hr"), default=10)


def main_metric(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """NDCG at its largest cut-off, else whatever was measured first; empty where nothing was."""
    ks = cutoffs(metrics, "ndcg")
    if ks:
        return f"ndcg@{ks[-1]}"
    return next((name for values in values_of(metrics, "test").values() for name in values), "")


def finite(value: Any) -> float | None:
    """A number, or None for what is missing or none."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def interval_bounds(values: Mapping[str, Any], part: str, metric: str) -> tuple[float, float] | None:
    """The 95 % interval of a recommender's metric; None where it has none."""
    intervals: Any = values.get("intervals")
    for key in (part, metric):
        intervals = intervals.get(key) if isinstance(intervals, Mapping) else None
    if not isinstance(intervals, (list, tuple)) or len(intervals) != 2:
        return None
    low, high = map(finite, intervals)
    return None if low is None or high is None else (low, high)
