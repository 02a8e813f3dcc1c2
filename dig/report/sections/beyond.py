"""Beyond accuracy: what a recommender does to the catalogue and to its users, ranked by nobody."""

from __future__ import annotations

from typing import Any

from dig.report.data import ReportData
from dig.report.formats import words
from dig.report.plots.recommenders import bar_plot
from dig.report.protocols import finite, values_of
from dig.report.table import ACCURACY

__all__ = ["beyond_accuracy"]

_MEANS = {
    "coverage": "share of the catalogue that at least one user is shown",
    "gini": "how unevenly items are shown: 0 all alike, nearly 1 everybody sees the same",
    "novelty": "bits of surprise of what is shown: the fewer bought it, the more",
    "diversity": "how different the items of a list are: 0 all of the same categories, 1 no two share one",
    "popularity_lift": "how much better known what is shown is than what the same users bought: 0 as popular, 1 twice "
    "as popular",
    "invalid": "share of places that are no item of the catalogue",
    "duplicates": "share of places that repeat an item",
}
_ELSEWHERE = (*ACCURACY, "memorization")


def beyond_accuracy(data: ReportData) -> dict[str, Any]:
    """A table, a plot a figure, and what the figures mean."""
    tests = values_of(data.metrics, "test")
    have = {key for values in tests.values() for key in values if key.partition("@")[0] not in _ELSEWHERE}
    order = list(_MEANS)
    keys = sorted(have, key=lambda key: (_place(order, key.partition("@")[0]), key))
    found = {
        key: {name: value for name, values in tests.items() if (value := finite(values.get(key))) is not None}
        for key in keys
    }
    return {
        "columns": keys,
        "rows": [(name, [finite(values.get(key)) for key in keys]) for name, values in tests.items()] if keys else [],
        "plots": [bar_plot(words(key), own) for key, own in found.items() if any(own.values())],
        "means": {words(key): _MEANS[key.partition("@")[0]] for key in keys if key.partition("@")[0] in _MEANS},
    }


def _place(order: list[str], family: str) -> int:
    return order.index(family) if family in order else len(order)
