"""Learning curves and other lines over steps, to be read by pointing at them and to be zoomed into."""

from __future__ import annotations

from dig.report.curves import CurvePlot
from dig.report.plots.style import Legend, Plot, colour_variable, plotted, rounded

__all__ = ["lines_plot"]

_COLOURS = (4, 5, 2, 1, 3, 6, 7, 0)
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
_HEIGHT = 150
_ZOOM = "wheel![event.shiftKey]"  # the wheel alone scrolls the page


def lines_plot(found: CurvePlot) -> Plot:
    """The lines of a plot with tooltips; dragging moves along the axis, shift and wheel zoom, a double click resets."""
    import altair as alt

    names = [line.name or found.title for line in found.lines]
    rows = [
        {"x": rounded(x), "y": None if y is None else rounded(y), "line": name}
        for name, line in zip(names, found.lines, strict=True)
        for x, y in line.points
    ]
    colours = [_COLOURS[place % len(_COLOURS)] for place in range(len(names))]
    level = len({row["y"] for row in rows} - {None}) < 2  # an axis around a single value would have no ticks
    scale = alt.Scale(type="log", nice=False) if found.log else alt.Scale(zero=level)
    base = alt.Chart().encode(
        x=alt.X("x:Q", title="step", scale=alt.Scale(nice=False), axis=alt.Axis(grid=False)),
        y=alt.Y("y:Q", title=None, scale=scale, axis=alt.Axis()),
        color=alt.Color("line:N", scale=alt.Scale(domain=names, range=list(map(colour_variable, colours)))),
    )
    dashes = [_DASHES[place % len(_DASHES)] for place in range(len(names))]
    zoom = alt.selection_interval(bind="scales", encodings=["x"], zoom=_ZOOM, name="zoom")
    lines = base.mark_line(strokeWidth=1.75, clip=True, invalid="break-paths-filter-domains").encode(
        strokeDash=alt.StrokeDash("line:N", scale=alt.Scale(domain=names, range=dashes))
    )
    near = alt.selection_point(on="pointerover", nearest=True, fields=["x"], empty=False, name="near")
    dots = (
        base.mark_point(filled=True, size=45, clip=True)
        .encode(
            opacity=alt.condition(near, alt.value(1), alt.value(0.9 if len(rows) <= len(names) else 0)),
            tooltip=[alt.Tooltip("line:N", title="line"), alt.Tooltip("x:Q", title="step", format=",~f"),
                     alt.Tooltip("y:Q", title="value", format=".4~g")],
        )
        .add_params(near)
    )  # fmt: skip
    spec = plotted(alt.layer(lines.add_params(zoom), dots), rows, _HEIGHT, f"{found.title} over steps")
    legend = [
        Legend(name, colour, _mark(place)) for place, (name, colour) in enumerate(zip(names, colours, strict=True))
    ]
    scaled = "logarithmic axis" if found.log else ""
    note = " · ".join(filter(None, (scaled, found.note)))
    return Plot(found.title, spec, note, legend if len(names) > 1 else ())


def _mark(place: int) -> str:
    return "line" if place % len(_DASHES) == 0 else "dash"
