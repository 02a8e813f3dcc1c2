"""A reliability plot: what a classifier promised against what came true."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dig.report.plots.style import Plot, colour_variable, plotted, rounded

__all__ = ["Bin", "read_bins", "reliability_plot"]

_HEIGHT = 260
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
    return [found for each in bins if (found := _read(each)) is not None]


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
    spec = plotted(alt.layer(points, diagonal), rows, _HEIGHT, "observed over predicted share of good interests")
    note = (
        "On phrases that the classifier never saw; a point is as large as its weight, the diagonal is a promise kept."
    )
    return Plot("Predicted against observed share of good interests", spec, note)


def _read(each: Any) -> Bin | None:
    if not isinstance(each, Mapping):
        return None
    try:
        found = Bin(*(float(each[name]) for name in Bin._fields))
    except (KeyError, TypeError, ValueError):
        return None
    fits = 0 <= found.predicted <= 1 and 0 <= found.observed <= 1 and 0 < found.weight < math.inf  # NaN fits nowhere
    return found if fits else None
