"""Learning curves and other lines over steps, to be read by pointing at them and to be zoomed into."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

from dig.report.curves import CurvePlot
from dig.report.plots.style import Legend, Plot, colour_variable, plotted, rounded

__all__ = ["lines_plot"]

_COLOURS = (4, 5, 2, 1, 3, 6, 7, 0)
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
_HEIGHT = 150
_ZOOM = "wheel![event.shiftKey]"  # the wheel alone scrolls the page


def lines_plot(found: CurvePlot) -> Plot:
    """The lines of a plot with tooltips; dragging moves along the axis, shift and wheel zoom, a double click resets."""
    from altair.utils import schemapi

    names = [line.name or found.title for line in found.lines]
    rows = [
        {"x": rounded(x), "y": None if y is None else rounded(y), "line": name}
        for name, line in zip(names, found.lines, strict=True)
        for x, y in line.points
    ]
    level = len({row["y"] for row in rows} - {None}) < 2  # an axis around a single value would have no ticks
    shape = deepcopy(_shape(len(names), found.log, level, len(rows) <= len(names), schemapi.DEBUG_MODE))
    for layer in shape["layer"]:
        for channel in ("color", "strokeDash"):
            if channel in layer["encoding"]:
                layer["encoding"][channel]["scale"]["domain"] = list(names)
    spec = shape | {"description": f"{found.title} over steps", "data": {"values": rows}}
    legend = [
        Legend(name, colour, _mark(place))
        for place, (name, colour) in enumerate(zip(names, _colours(len(names)), strict=True))
    ]
    scaled = "logarithmic axis" if found.log else ""
    note = " · ".join(filter(None, (scaled, found.note)))
    return Plot(found.title, spec, note, legend if len(names) > 1 else ())


@cache
def _shape(count: int, log: bool, level: bool, dots: bool, checked: bool) -> dict[str, Any]:
    """The specification of so many lines without their names and points.

    A run has dozens of these plots in a few shapes, and Altair takes longer over each than a browser does.

    Args:
        count: of lines.
        log: a logarithmic axis.
        level: all values are one.
        dots: points are shown without being pointed at.
        checked: whether Altair held it to the schema, as it was told while this was called.
    """
    import altair as alt

    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=level)
    named = [str(place) for place in range(count)]
    colours = list(map(colour_variable, _colours(count)))
    base = alt.Chart().encode(
        x=alt.X("x:Q", title="step", scale=alt.Scale(nice=False), axis=alt.Axis(grid=False)),
        y=alt.Y("y:Q", title=None, scale=scale, axis=alt.Axis()),
        color=alt.Color("line:N", scale=alt.Scale(domain=named, range=colours)),
    )
    dashes = [_DASHES[place % len(_DASHES)] for place in range(count)]
    zoom = alt.selection_interval(bind="scales", encodings=["x"], zoom=_ZOOM, name="zoom")
    lines = base.mark_line(strokeWidth=1.75, clip=True, invalid="break-paths-filter-domains").encode(
        strokeDash=alt.StrokeDash("line:N", scale=alt.Scale(domain=named, range=dashes))
    )
    near = alt.selection_point(on="pointerover", nearest=True, fields=["x"], empty=False, name="near")
    points = (
        base.mark_point(filled=True, size=45, clip=True)
        .encode(
            opacity=alt.condition(near, alt.value(1), alt.value(0.9 if dots else 0)),
            tooltip=[
                alt.Tooltip("line:N", title="line"),
                alt.Tooltip("x:Q", title="step", format=",~f"),
                alt.Tooltip("y:Q", title="value", format=".4~g"),
            ],
        )
        .add_params(near)
    )
    return plotted(alt.layer(lines.add_params(zoom), points), [], _HEIGHT, "")


def _colours(count: int) -> list[int]:
    return [_COLOURS[place % len(_COLOURS)] for place in range(count)]


def _mark(place: int) -> str:
    return "line" if place % len(_DASHES) == 0 else "dash"
