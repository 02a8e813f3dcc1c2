"""The result: every recommender under both protocols, with intervals, and what GRPO adds to SFT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dig.report.data import ReportData
from dig.report.plots.recommenders import difference_plot, whisker_plot
from dig.report.plots.style import Plot
from dig.report.protocols import Protocol, cutoffs, finite, interval_bounds, protocols, values_of
from dig.report.table import metrics_grid, split_names

__all__ = ["result"]


def result(data: ReportData) -> dict[str, Any]:
    """Tables and plots of the tests, the table of the validation, differences with their intervals."""
    metrics = data.metrics
    over = _over(metrics)
    return {
        "split": ", ".join(split_names(metrics)),
        "tests": [
            {"protocol": each, "grid": metrics_grid(metrics, each.key), "plots": _plots(metrics, each)}
            for each in protocols(metrics)
        ],
        "valid": metrics_grid(metrics, "valid"),
        "over": over,
        "over_plot": difference_plot(over) if over else None,
        "users": {name: values.get("examples") for name, values in metrics.items()},
    }


def _plots(metrics: Mapping[str, Mapping[str, Any]], protocol: Protocol) -> list[Plot]:
    plots = []
    for family in ("hr", "ndcg"):
        for cutoff in cutoffs(metrics, family, protocol.key):
            name, found = f"{family}@{cutoff}", {}
            for stage, values in values_of(metrics, protocol.key).items():
                value = finite(values.get(name))
                if value is not None:
                    found[stage] = (value, *(interval_bounds(metrics[stage], protocol.key, name) or (None, None)))
            if found:
                plots.append(whisker_plot(name, found))
    return plots


def _over(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, float, float]]:
    """Difference of GRPO to SFT, low and high by metric."""
    found = metrics.get("grpo", {}).get("over_sft")
    over = {}
    for name, values in (found if isinstance(found, Mapping) else {}).items():
        if isinstance(values, Mapping):
            difference, low, high = (finite(values.get(key)) for key in ("difference", "low", "high"))
            if difference is not None and low is not None and high is not None:
                over[name] = (difference, low, high)
    return over
