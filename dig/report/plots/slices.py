"""A metric by slice of the examples, recommenders side by side: small multiples of one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dig.report.formats import metric_name, recommender_name
from dig.report.plots.style import Plot, colour_index, colour_variable, plotted, rounded

__all__ = ["slice_plot"]

_HEIGHT = 190


def slice_plot(
    title: str, metric: str, counts: Mapping[str, int], found: Mapping[str, Mapping[str, float]], names: Sequence[str]
) -> Plot:
    """Bars by slice.

    Args:
        title: what the examples are sliced by.
        metric: its key.
        counts: examples by slice, in the order of the axis.
        found: by recommender the metric by slice.
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
        for recommender, values in found.items()
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
