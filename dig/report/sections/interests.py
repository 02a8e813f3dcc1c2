"""Interests and labels: what RLDI measured of itself, and examples of what it kept and rejected."""

from __future__ import annotations

from typing import Any

from dig.report.data import ReportData
from dig.report.formats import number, words
from dig.report.plots.reliability import read_bins, reliability_plot
from dig.report.values import is_list, listed, mapping

__all__ = ["interest_labels"]

_TELLING = 12
"""Features of the interest classifier that are shown."""
_SHOWN_APART = ("held_out", "examples", "reliability", "features")


def interest_labels(data: ReportData) -> dict[str, Any]:
    """RLDI's report in parts: figures, the reliability plot, features, lists of examples."""
    labels = data.labels
    rest = {key: value for key, value in labels.items() if key not in _SHOWN_APART}
    lists = {**rest, **mapping(labels.get("examples"))}
    held_out = {
        f"held_out_{key}" if key in rest else key: value for key, value in mapping(labels.get("held_out")).items()
    }
    features = [mapping(each) for each in listed(labels.get("features"))]
    bins = read_bins(listed(labels.get("reliability")))
    return {
        "figures": {key: value for key, value in (rest | held_out).items() if not is_list(value)},
        "reliability": reliability_plot(bins) if bins else None,
        "features": [each for each in features if each][:_TELLING],
        "lists": {key: [_example(each) for each in value] for key, value in lists.items() if is_list(value)},
    }


def _example(value: Any) -> tuple[str, str]:
    """The text of a labelled interest, and what else is known of it."""
    example = mapping(value)
    if not example:
        return number(value), ""
    rest = {key: each for key, each in example.items() if key != "text"}
    return str(example.get("text", "")), " · ".join(f"{words(str(key))} {number(each)}" for key, each in rest.items())
