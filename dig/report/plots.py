"""Plots of the report as Vega-Lite specifications; Altair is imported when the first is built."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dig.config import RECOMMENDERS
from dig.config.recommenders import COLOURS
from dig.report.formats import metric_name, recommender_name

__path__: list[str] = []  # it was a package, whose parts dig.engine.moved names
__all__ = [
    "CONFIG",
    "Legend",
    "Plot",
    "colour_index",
    "colour_variable",
    "plotted",
    "rounded",
    "bar_plot",
    "difference_plot",
    "hit_rate_plot",
    "whisker_plot",
    "slice_plot",
    "Bin",
    "read_bins",
    "reliability_plot",
]


_QUIET = {"labelColor": "var(--soft)", "titleColor": "var(--soft)"}
CONFIG: dict[str, Any] = {
    "background": None,
    "padding": {"left": 5, "top": 5, "right": 16, "bottom": 5},  # half of the last label of an axis lies beyond it
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **_QUIET,
        "gridColor": "var(--grid)",
        "domainColor": "var(--axis)",
        "tickColor": "var(--axis)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 150,
        "tickCount": 4,
        "labelOverlap": "greedy",
        "labelSeparation": 4,
    },
    "axisX": {"labelFlush": False},
    "axisBand": {"grid": False},
    "axisPoint": {"grid": False},
    "legend": {"disable": True},
}
"""Configuration of every plot; legends stand in the page, where they wrap on a phone."""


class Legend(NamedTuple):
    """An entry of a legend: its words, the number of its colour, and its mark (dot, ring, line, dash)."""

    name: str
    colour: int
    mark: str = "dot"


@dataclass(frozen=True)
class Plot:
    """A plot and what stands around it."""

    title: str
    spec: dict[str, Any]
    note: str = ""
    legend: Sequence[Legend] = field(default=())


def colour_index(name: str, others: Sequence[str] = ()) -> int:
    """The colour of a recommender, the number of a variable ``--s0`` … of the style sheet: the one that it has in every
    plot, or else one that none of the ``others`` has."""
    chosen = {each: spec.colour for each, spec in RECOMMENDERS.items() if spec.colour is not None}
    if name in chosen:
        return chosen[name]
    taken = {chosen[each] for each in others if each in chosen}
    left = [colour for colour in range(COLOURS) if colour not in taken] or list(range(COLOURS))
    unknown = [each for each in others if each not in chosen]
    place = unknown.index(name) if name in unknown else 0
    return left[place % len(left)]


def colour_variable(index: int) -> str:
    """A colour as the style sheet names it."""
    return f"var(--s{index % COLOURS})"


def plotted(chart: Any, rows: Iterable[Mapping[str, Any]], height: int, description: str) -> dict[str, Any]:
    """The specification of a chart over rows, as wide as its place in the page.

    Args:
        chart: an Altair chart whose data are left open.
        rows: its data.
        height: of the plotting area in pixels.
        description: what the plot shows, for those who hear it.
    """
    from altair.utils import schemapi

    spec: dict[str, Any] = chart.properties(
        width="container", height=height, autosize={"type": "fit-x", "contains": "padding"}
    ).to_dict(validate=schemapi.DEBUG_MODE)  # off where a whole report is made, see render_report
    for unused in ("$schema", "config", "datasets"):
        spec.pop(unused, None)
    for layer in spec.get("layer", ()):
        if layer.get("data") == {"name": "empty"}:  # what Altair writes for data that are left open
            del layer["data"]
    return spec | {"description": description, "data": {"values": list(rows)}}


def rounded(value: float) -> float:
    """A number to draw: five significant digits."""
    return float(f"{value:.5g}")


# Recommenders beside each other: dots with whiskers, bars, and differences with their intervals.


_ROW = 30  # pixels per recommender


def whisker_plot(metric: str, values: Mapping[str, tuple[float, float | None, float | None]]) -> Plot:
    """Dots of a metric with their 95 % intervals, where they are known.

    Args:
        metric: its key.
        values: value, low and high by recommender.
    """
    import altair as alt

    rows = [
        {"name": recommender_name(name), "value": rounded(value)}
        | ({"low": rounded(low), "high": rounded(high)} if low is not None and high is not None else {})
        for name, (value, low, high) in values.items()
    ]
    y, colour = _rows(list(values))
    shown = [
        alt.Tooltip("name:N", title="recommender"),
        alt.Tooltip("value:Q", title=metric_name(metric), format=".4f"),
    ]
    bounds = [alt.Tooltip("low:Q", title="low", format=".4f"), alt.Tooltip("high:Q", title="high", format=".4f")]
    base = alt.Chart().encode(y=y, color=colour, tooltip=[*shown, *bounds])
    whiskers = base.mark_rule(strokeWidth=2.5, strokeCap="round").encode(x=_value("low", zero=True), x2="high:Q")
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(x=_value("value", zero=True))
    title = metric_name(metric)
    return Plot(title, plotted(alt.layer(whiskers, dots), rows, _height(rows), f"{title} by recommender"))


def difference_plot(differences: Mapping[str, tuple[float, float, float]]) -> Plot:
    """Differences between two recommenders by metric, with their intervals and a line at 0.

    Args:
        differences: difference, low and high by metric.
    """
    import altair as alt

    rows = [
        {"name": metric_name(metric), "value": rounded(value), "low": rounded(low), "high": rounded(high)}
        for metric, (value, low, high) in differences.items()
    ]
    y = alt.Y("name:N", sort=[metric_name(metric) for metric in differences], title=None, axis=_bare(alt))
    base = alt.Chart().encode(
        y=y,
        tooltip=[
            alt.Tooltip("name:N", title="metric"),
            *(alt.Tooltip(f"{key}:Q", format="+.4f") for key in ("value", "low", "high")),
        ],
    )
    zero = alt.Chart().mark_rule(strokeDash=[4, 3], color="var(--soft)").encode(x=alt.datum(0))
    colour = colour_variable(colour_index("grpo"))
    axis = _value("low", zero=True, form="+.3~f")
    whiskers = base.mark_rule(strokeWidth=2.5, strokeCap="round", color=colour).encode(x=axis, x2="high:Q")
    dots = base.mark_point(filled=True, size=80, opacity=1, color=colour).encode(
        x=_value("value", zero=True, form="+.3~f")
    )
    chart = alt.layer(zero, whiskers, dots)
    return Plot("GRPO − SFT", plotted(chart, rows, _height(rows), "difference between GRPO and SFT by metric"))


def bar_plot(title: str, values: Mapping[str, float]) -> Plot:
    """Bars of a figure by recommender."""
    import altair as alt

    rows = [{"name": recommender_name(name), "value": rounded(value)} for name, value in values.items()]
    y, colour = _rows(list(values))
    chart = (
        alt.Chart()
        .mark_bar(cornerRadiusEnd=2, height=14)
        .encode(
            y=y,
            color=colour,
            x=_value("value", zero=True),
            tooltip=[alt.Tooltip("name:N", title="recommender"), alt.Tooltip("value:Q", title=title, format=".4~g")],
        )
    )
    return Plot(title, plotted(chart, rows, _height(rows), f"{title} by recommender"))


def hit_rate_plot(metric: str, rates: Mapping[str, Mapping[str, float]]) -> Plot:
    """A metric of two groups of users by recommender: a dot, a ring, and the way between them.

    Args:
        metric: its key.
        rates: by recommender the metric by group, the first group as dots.
    """
    import altair as alt

    rows: list[dict[str, Any]] = [
        {"name": recommender_name(name), "group": group, "value": rounded(value)}
        for name, groups in rates.items()
        for group, value in groups.items()
    ]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    y, colour = _rows(list(rates))
    base = alt.Chart().encode(y=y, x=_value("value", zero=True))
    ways = base.mark_line(strokeWidth=2, opacity=0.5).encode(detail="name:N", color=colour)
    fill = alt.condition(
        alt.FieldEqualPredicate(field="group", equal=groups[0] if groups else ""), colour, alt.value("var(--card)")
    )
    dots = base.mark_point(size=85, strokeWidth=2.5, opacity=1).encode(
        stroke=alt.Stroke("name:N", scale=colour["scale"]),
        fill=fill,
        tooltip=[
            alt.Tooltip("name:N", title="recommender"),
            alt.Tooltip("group:N", title="users"),
            alt.Tooltip("value:Q", title=metric_name(metric), format=".4f"),
        ],
    )
    title = f"{metric_name(metric)} by users"
    spec = plotted(alt.layer(ways, dots), rows, _height(rows), title)
    marks = zip(groups, ("dot", "ring"), strict=False)
    return Plot(title, spec, legend=[Legend(group, 0, mark) for group, mark in marks])


def _rows(names: Sequence[str]) -> tuple[Any, Any]:
    """The axis of recommenders and their colours."""
    import altair as alt

    shown = [recommender_name(name) for name in names]
    scale = alt.Scale(domain=shown, range=[colour_variable(colour_index(name, names)) for name in names])
    return alt.Y("name:N", sort=shown, title=None, axis=_bare(alt)), alt.Color("name:N", scale=scale)


def _bare(alt: Any) -> Any:
    return alt.Axis(ticks=False, domain=False, labelPadding=6, labelColor="var(--ink)")


def _value(field: str, zero: bool, form: str = "") -> Any:
    import altair as alt

    axis = alt.Axis(tickCount=3, format=form) if form else alt.Axis(tickCount=3)
    return alt.X(f"{field}:Q", title=None, scale=alt.Scale(zero=zero, nice=True), axis=axis)


def _height(rows: Sequence[Mapping[str, Any]]) -> int:
    return _ROW * max(1, len({row["name"] for row in rows}))


# A metric by slice of the examples, recommenders side by side: small multiples of one figure.


_HEIGHT = 190


def slice_plot(
    title: str,
    metric: str,
    counts: Mapping[str, int],
    by_recommender: Mapping[str, Mapping[str, float]],
    names: Sequence[str],
) -> Plot:
    """Bars by slice.

    Args:
        title: what the examples are sliced by.
        metric: its key.
        counts: examples by slice, in the order of the axis.
        by_recommender: by recommender the metric by slice.
        names: all recommenders of the figure.
    """
    import altair as alt

    rows = [
        {
            "slice": f"{name}|{count:,}",
            "of": name,
            "examples": count,
            "name": recommender_name(recommender),
            "value": rounded(values[name]),
        }
        for name, count in counts.items()
        for recommender, values in by_recommender.items()
        if name in values
    ]
    shown = [recommender_name(name) for name in names]
    colours = [colour_variable(colour_index(name, names)) for name in names]
    order = [f"{name}|{count:,}" for name, count in counts.items()]
    # a label is two lines, the slice and its examples; the expression is ours, the label is only split
    labels = alt.Axis(
        labelExpr="split(datum.label, '|')", labelAngle=0, ticks=False, labelPadding=6, labelColor="var(--ink)"
    )
    chart = (
        alt.Chart()
        .mark_bar(cornerRadiusEnd=1.5)
        .encode(
            x=alt.X("slice:N", sort=order, title=None, axis=labels, scale=alt.Scale(paddingInner=0.25)),
            xOffset=alt.XOffset("name:N", sort=shown, scale=alt.Scale(domain=shown)),
            y=alt.Y("value:Q", title=None, axis=alt.Axis()),
            color=alt.Color("name:N", scale=alt.Scale(domain=shown, range=colours)),
            tooltip=[
                alt.Tooltip("name:N", title="recommender"),
                alt.Tooltip("of:N", title=title),
                alt.Tooltip("value:Q", title=metric_name(metric), format=".4f"),
                alt.Tooltip("examples:Q", format=","),
            ],
        )
    )
    return Plot(title, plotted(chart, rows, _HEIGHT, f"{metric_name(metric)} by {title} and recommender"))


# A reliability plot: what a classifier promised against what came true.


_SQUARE = 260
_LARGEST = 320  # square pixels of the bin with the most weight
_SMALLEST = 30
_COLOUR = colour_variable(4)


class Bin(NamedTuple):
    """Promises of about one size, and how often they came true."""

    predicted: float
    observed: float
    weight: float


def read_bins(bins: Iterable[Any]) -> list[Bin]:
    """Bins of mappings with ``predicted`` and ``observed`` in [0, 1] and a ``weight``; others are left out."""
    return [bin_ for each in bins if (bin_ := _read(each)) is not None]


def reliability_plot(bins: Iterable[Bin]) -> Plot:
    """Points of bins, in proportion to their weight; promises kept lie on the rising diagonal."""
    import altair as alt

    bins = list(bins)
    total = sum(each.weight for each in bins)
    rows = [
        {
            "predicted": rounded(each.predicted),
            "observed": rounded(each.observed),
            "share": rounded(each.weight / total),
        }
        for each in bins
    ]
    unit = alt.Scale(domain=[0, 1], nice=False)
    largest = max((row["share"] for row in rows), default=1.0)
    size = alt.Size("share:Q", scale=alt.Scale(domain=[0, largest], range=[_SMALLEST, _LARGEST], zero=True))
    x = alt.X("predicted:Q", scale=unit, axis=alt.Axis(title="predicted", format=".1f"))
    y = alt.Y("observed:Q", scale=unit, axis=alt.Axis(title="observed", format=".1f"))
    corners = alt.Data(values=[{"at": 0}, {"at": 1}])
    diagonal = (
        alt.Chart(corners)
        .mark_line(strokeDash=[4, 3], color="var(--soft)")
        .encode(x=alt.X("at:Q", scale=unit), y=alt.Y("at:Q", scale=unit))
    )
    points = (
        alt.Chart()
        .mark_point(filled=True, opacity=0.75, color=_COLOUR)
        .encode(
            x=x,
            y=y,
            size=size,
            tooltip=[
                *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("predicted", "observed")),
                alt.Tooltip("share:Q", title="weight", format=".1%"),
            ],
        )
    )
    spec = plotted(alt.layer(points, diagonal), rows, _SQUARE, "observed over predicted share of good interests")
    note = (
        "On phrases that the classifier never saw; a point is as large as its weight, the diagonal is a promise kept."
    )
    return Plot("Predicted against observed share of good interests", spec, note)


def _read(each: Any) -> Bin | None:
    if not isinstance(each, Mapping):
        return None
    try:
        bin_ = Bin(*(float(each[name]) for name in Bin._fields))
    except (KeyError, TypeError, ValueError):
        return None
    fits = 0 <= bin_.predicted <= 1 and 0 <= bin_.observed <= 1 and 0 < bin_.weight < math.inf  # NaN fits nowhere
    return bin_ if fits else None
