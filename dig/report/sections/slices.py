"""Slices: how recommenders fare with targets of every popularity, histories of every length, and one hop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dig.report.data import ReportData
from dig.report.formats import metric_name, recommender_name, words
from dig.report.plots.slices import slice_plot
from dig.report.plots.style import Legend, colour_index
from dig.report.protocols import finite, main_metric
from dig.report.values import mapping

__all__ = ["slices"]

_FAMILIES = {
    "target": ("popularity of the target", "how often the training part holds it: cold never, rare up to five times"),
    "history": ("length of the history", "items before the target"),
    "one-hop": ("one hop", "beneficiary: the target is in the user's one-hop candidate set"),
}


def slices(data: ReportData) -> dict[str, Any]:
    """A plot and a table a family of slices, for the main metric that slices have."""
    found = {name: mapping(mapping(values.get("slices")).get("test")) for name, values in data.metrics.items()}
    found = {name: values for name, values in found.items() if values}
    metric = _metric(data.metrics, found)
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    families: dict[str, list[str]] = {key: [] for key in _FAMILIES if any(name.startswith(f"{key}:") for name in names)}
    for name in names:
        families.setdefault(name.partition(":")[0], []).append(name)
    return {
        "metric": metric_name(metric),
        "legend": [Legend(recommender_name(name), colour_index(name, list(found))) for name in found],
        "recommenders": list(found),
        "families": [_family(key, own, metric, found) for key, own in families.items()],
    }


def _metric(metrics: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]) -> str:
    """The main metric, or the first that is nearest to it."""
    have = list(dict.fromkeys(key for values in found.values() for each in values.values() for key in mapping(each)))
    wanted = main_metric(metrics)
    if wanted in have:
        return wanted
    ndcg = [key for key in have if key.startswith("ndcg@")]
    return (ndcg or [key for key in have if key != "examples"] or [wanted])[-1]


def _family(key: str, names: list[str], metric: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    title, says = _FAMILIES.get(key, (words(key), ""))
    counts, rows = {}, []
    values: dict[str, dict[str, float]] = {name: {} for name in found}
    for name in names:
        short = name.partition(": ")[2] or name
        count = max((finite(mapping(each.get(name)).get("examples")) or 0 for each in found.values()), default=0)
        counts[short] = int(count)
        cells = []
        for recommender, each in found.items():
            value = finite(mapping(each.get(name)).get(metric))
            cells.append(value)
            if value is not None:
                values[recommender][short] = value
        best = max((value for value in cells if value is not None), default=None)
        several = sum(value is not None for value in cells) > 1
        rows.append((short, int(count), [(value, several and value == best) for value in cells]))
    return {
        "title": title,
        "says": says,
        "plot": slice_plot(title, metric, counts, values, list(found)),
        "rows": rows,
    }
