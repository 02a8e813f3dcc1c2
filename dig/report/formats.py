"""Numbers, times and names as the page writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dig.config import RECOMMENDERS

__all__ = ["DASH", "duration", "interval", "metric_name", "number", "recommender_name", "shorten", "slug", "words"]

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
