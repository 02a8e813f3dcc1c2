"""Recommenders beside each other: dots with whiskers, bars, and differences with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dig.report.formats import metric_name, recommender_name
from dig.report.plots.style import Legend, Plot, colour_index, colour_variable, plotted, rounded

__all__ = ["bar_plot", "difference_plot", "hit_rate_plot", "whisker_plot"]

_ROW = 30  # pixels a recommender


def whisker_plot(metric: str, found: Mapping[str, tuple[float, float | None, float | None]]) -> Plot:
    """Dots of a metric with their 95 % intervals, where they are known.

    Args:
        metric: its key.
        found: value, low and high by recommender.
    """
    import altair as alt

    rows = [
        {"name": recommender_name(name), "value": rounded(value)}
        | ({"low": rounded(low), "high": rounded(high)} if low is not None and high is not None else {})
        for name, (value, low, high) in found.items()
    ]
    y, colour = _rows(list(found))
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


def difference_plot(found: Mapping[str, tuple[float, float, float]]) -> Plot:
    """Differences between two recommenders by metric, with their intervals and a line at 0.

    Args:
        found: difference, low and high by metric.
    """
    import altair as alt

    rows = [
        {"name": metric_name(metric), "value": rounded(value), "low": rounded(low), "high": rounded(high)}
        for metric, (value, low, high) in found.items()
    ]
    y = alt.Y("name:N", sort=[metric_name(metric) for metric in found], title=None, axis=_bare(alt))
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


def bar_plot(title: str, found: Mapping[str, float]) -> Plot:
    """Bars of a figure by recommender."""
    import altair as alt

    rows = [{"name": recommender_name(name), "value": rounded(value)} for name, value in found.items()]
    y, colour = _rows(list(found))
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


def hit_rate_plot(metric: str, found: Mapping[str, Mapping[str, float]]) -> Plot:
    """A metric of two groups of users by recommender: a dot, a ring, and the way between them.

    Args:
        metric: its key.
        found: by recommender the metric by group, the first group as dots.
    """
    import altair as alt

    rows: list[dict[str, Any]] = [
        {"name": recommender_name(name), "group": group, "value": rounded(value)}
        for name, groups in found.items()
        for group, value in groups.items()
    ]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    y, colour = _rows(list(found))
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
