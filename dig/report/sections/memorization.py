"""Memorization: how much of what is recommended could be known by heart, and who gains from that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dig.report.data import ReportData
from dig.report.formats import metric_name
from dig.report.plots.recommenders import bar_plot, hit_rate_plot
from dig.report.protocols import finite, values_of
from dig.report.values import mapping

__all__ = ["memorization"]

_GROUPS = {"beneficiary": "one-hop: beneficiary", "non-beneficiary": "one-hop: non-beneficiary"}


def memorization(data: ReportData) -> dict[str, Any]:
    """Ratio and hit rates by recommender, where either is known."""
    ratios = _ratios(data.metrics)
    groups = {name: _groups(values) for name, values in data.metrics.items()}
    groups = {name: found for name, found in groups.items() if found}
    metric = _hit_rate(groups)
    rates = {
        name: {group: value for group, found in own.items() if (value := finite(found.get(metric))) is not None}
        for name, own in groups.items()
    }
    rates = {name: own for name, own in rates.items() if own}
    names = [name for name in data.metrics if name in ratios or name in rates]
    counts = {
        group: max((int(finite(own[group].get("examples")) or 0) for own in groups.values() if group in own), default=0)
        for group in _GROUPS
    }
    return {
        "metric": metric_name(metric),
        "counts": counts,
        "rows": [(name, ratios.get(name), [rates.get(name, {}).get(group) for group in _GROUPS]) for name in names],
        "ratio_plot": bar_plot("memorization ratio", ratios) if ratios else None,
        "rate_plot": hit_rate_plot(metric, rates) if rates else None,
    }


def _ratios(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    found = {}
    for name, values in values_of(metrics, "test").items():
        key = next((key for key in values if key.startswith("memorization@")), "")
        value = finite(values.get(key))
        if value is not None:
            found[name] = value
    return found


def _groups(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    test = mapping(mapping(values.get("slices")).get("test"))
    return {group: mapping(test[key]) for group, key in _GROUPS.items() if key in test}


def _hit_rate(groups: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """HR@5, the cut-off of the ratio, else the first that there is."""
    have = list(dict.fromkeys(key for own in groups.values() for found in own.values() for key in found))
    rates = [key for key in have if key.startswith("hr@")]
    return "hr@5" if "hr@5" in rates or not rates else rates[0]
