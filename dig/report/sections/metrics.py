"""Sections on what was measured: the result, slices, memorization, and what lies beyond accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dig.report.data import ReportData
from dig.report.formats import (
    ReportedProtocol,
    cutoffs,
    finite,
    interval_bounds,
    main_metric,
    mapping,
    metric_name,
    protocols,
    recommender_name,
    values_of,
    words,
)
from dig.report.plots import (
    Legend,
    Plot,
    bar_plot,
    colour_index,
    difference_plot,
    hit_rate_plot,
    slice_plot,
    whisker_plot,
)
from dig.report.table import ACCURACY, metrics_grid, split_names

__all__ = ["result", "slices", "memorization", "beyond_accuracy"]


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


def _plots(metrics: Mapping[str, Mapping[str, Any]], protocol: ReportedProtocol) -> list[Plot]:
    plots = []
    for family in ("hr", "ndcg"):
        for cutoff in cutoffs(metrics, family, protocol.key):
            name, values_by_name = f"{family}@{cutoff}", {}
            for stage, values in values_of(metrics, protocol.key).items():
                value = finite(values.get(name))
                if value is not None:
                    values_by_name[stage] = (
                        value,
                        *(interval_bounds(metrics[stage], protocol.key, name) or (None, None)),
                    )
            if values_by_name:
                plots.append(whisker_plot(name, values_by_name))
    return plots


def _over(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, float, float]]:
    """Difference of GRPO to SFT, low and high by metric."""
    gains = metrics.get("grpo", {}).get("over_sft")
    over = {}
    for name, values in (gains if isinstance(gains, Mapping) else {}).items():
        if isinstance(values, Mapping):
            difference, low, high = (finite(values.get(key)) for key in ("difference", "low", "high"))
            if difference is not None and low is not None and high is not None:
                over[name] = (difference, low, high)
    return over


# Slices: how recommenders fare with targets of every popularity, histories of every length, and one hop.


_FAMILIES = {
    "target": ("popularity of the target", "how often the training part holds it: cold never, rare up to five times"),
    "history": ("length of the history", "items before the target"),
    "one-hop": ("one hop", "beneficiary: the target is in the user's one-hop candidate set"),
}


def slices(data: ReportData) -> dict[str, Any]:
    """A plot and a table a family of slices, for the main metric that slices have."""
    by_recommender = {name: mapping(mapping(values.get("slices")).get("test")) for name, values in data.metrics.items()}
    by_recommender = {name: values for name, values in by_recommender.items() if values}
    metric = _metric(data.metrics, by_recommender)
    names = list(dict.fromkeys(name for values in by_recommender.values() for name in values))
    families: dict[str, list[str]] = {key: [] for key in _FAMILIES if any(name.startswith(f"{key}:") for name in names)}
    for name in names:
        families.setdefault(name.partition(":")[0], []).append(name)
    return {
        "metric": metric_name(metric),
        "legend": [Legend(recommender_name(name), colour_index(name, list(by_recommender))) for name in by_recommender],
        "recommenders": list(by_recommender),
        "families": [_family(key, own, metric, by_recommender) for key, own in families.items()],
    }


def _metric(metrics: Mapping[str, Mapping[str, Any]], by_recommender: Mapping[str, Mapping[str, Any]]) -> str:
    """The main metric, or the first that is nearest to it."""
    have = list(
        dict.fromkeys(key for values in by_recommender.values() for each in values.values() for key in mapping(each))
    )
    main = main_metric(metrics)
    if main in have:
        return main
    ndcg = [key for key in have if key.startswith("ndcg@")]
    return (ndcg or [key for key in have if key != "examples"] or [main])[-1]


def _family(key: str, names: list[str], metric: str, by_recommender: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    title, says = _FAMILIES.get(key, (words(key), ""))
    counts, rows = {}, []
    values: dict[str, dict[str, float]] = {name: {} for name in by_recommender}
    for name in names:
        short = name.partition(": ")[2] or name
        count = max(
            (finite(mapping(each.get(name)).get("examples")) or 0 for each in by_recommender.values()), default=0
        )
        counts[short] = int(count)
        cells = []
        for recommender, each in by_recommender.items():
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
        "plot": slice_plot(title, metric, counts, values, list(by_recommender)),
        "rows": rows,
    }


# Memorization: how much of what is recommended could be known by heart, and who gains from that.


_GROUPS = {"beneficiary": "one-hop: beneficiary", "non-beneficiary": "one-hop: non-beneficiary"}


def memorization(data: ReportData) -> dict[str, Any]:
    """Ratio and hit rates by recommender, where either is known."""
    ratios = _ratios(data.metrics)
    groups = {name: _groups(values) for name, values in data.metrics.items()}
    groups = {name: by_group for name, by_group in groups.items() if by_group}
    metric = _hit_rate(groups)
    rates = {
        name: {group: value for group, by_group in own.items() if (value := finite(by_group.get(metric))) is not None}
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
    ratios = {}
    for name, values in values_of(metrics, "test").items():
        key = next((key for key in values if key.startswith("memorization@")), "")
        value = finite(values.get(key))
        if value is not None:
            ratios[name] = value
    return ratios


def _groups(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    test = mapping(mapping(values.get("slices")).get("test"))
    return {group: mapping(test[key]) for group, key in _GROUPS.items() if key in test}


def _hit_rate(groups: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """HR@5, the cut-off of the ratio, else the first that there is."""
    have = list(dict.fromkeys(key for own in groups.values() for measured in own.values() for key in measured))
    rates = [key for key in have if key.startswith("hr@")]
    return "hr@5" if "hr@5" in rates or not rates else rates[0]


# Beyond accuracy: what a recommender does to the catalogue and to its users, ranked by nobody.


_MEANS = {
    "coverage": "share of the catalogue that at least one user is shown",
    "gini": "how unevenly items are shown: 0 all alike, nearly 1 everybody sees the same",
    "novelty": "bits of surprise of what is shown: the fewer bought it, the more",
    "diversity": "how different the items of a list are: 0 all of the same categories, 1 no two share one",
    "popularity_lift": "how much better known what is shown is than what the same users bought: 0 as popular, 1 twice "
    "as popular",
    "invalid": "share of places that are not items of the catalogue",
    "duplicates": "share of places that repeat an item",
}
_ELSEWHERE = (*ACCURACY, "memorization")


def beyond_accuracy(data: ReportData) -> dict[str, Any]:
    """A table, a plot per figure, and what the figures mean."""
    tests = values_of(data.metrics, "test")
    have = {key for values in tests.values() for key in values if key.partition("@")[0] not in _ELSEWHERE}
    order = list(_MEANS)
    keys = sorted(have, key=lambda key: (_place(order, key.partition("@")[0]), key))
    by_metric = {
        key: {name: value for name, values in tests.items() if (value := finite(values.get(key))) is not None}
        for key in keys
    }
    return {
        "columns": keys,
        "rows": [(name, [finite(values.get(key)) for key in keys]) for name, values in tests.items()] if keys else [],
        "plots": [bar_plot(words(key), own) for key, own in by_metric.items() if any(own.values())],
        "means": {words(key): _MEANS[key.partition("@")[0]] for key in keys if key.partition("@")[0] in _MEANS},
    }


def _place(order: list[str], family: str) -> int:
    return order.index(family) if family in order else len(order)
