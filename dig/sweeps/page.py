"""``sweep.html``: one file that shows a sweep, self-contained like a run's report and under the same policy."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import TrialState

from dig.engine.artifacts import atomic_path
from dig.report import html
from dig.report.plots import Legend, Plot, colour_variable, plotted, rounded
from dig.sweeps.results import TrialRow, label
from dig.sweeps.settings import Settings

__all__ = [
    "Axis",
    "axis_of",
    "heat_map",
    "history_plot",
    "importance_plot",
    "parallel_plot",
    "importances",
    "render_page",
    "write_page",
]


_STEPS = 8
"""Different values up to which each is a step of its own."""
_BINS = 6


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        name: of the parameter.
        steps: its labels from the lowest; empty where it is a scale.
        low: least number of a scale.
        high: largest number of a scale.
        log: whether the scale is logarithmic.
    """

    name: str
    steps: tuple[str, ...]
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    def place(self, value: Any) -> float:
        """Where a value lies, from 0 to 1."""
        if self.steps:
            return self.steps.index(label(value)) / max(1, len(self.steps) - 1) if len(self.steps) > 1 else 0.5
        low, high, number = (math.log(each) if self.log else each for each in (self.low, self.high, float(value)))
        return (number - low) / (high - low)

    def cell(self, value: Any) -> str:
        """The step, or the part of the scale, that a value falls into."""
        return label(value) if self.steps else self._cells()[min(int(self.place(value) * _BINS), _BINS - 1)]

    @property
    def cells(self) -> list[str]:
        """All of them, from the lowest."""
        return list(self.steps) if self.steps else self._cells()

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels to be written beside the axis."""
        if self.steps:
            last = max(1, len(self.steps) - 1)
            return [(place / last if len(self.steps) > 1 else 0.5, text) for place, text in enumerate(self.steps)]
        return [(share, f"{self._at(share):.3g}") for share in (0.0, 0.5, 1.0)]

    def _at(self, share: float) -> float:
        if self.log:
            return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        return self.low + share * (self.high - self.low)

    def _cells(self) -> list[str]:
        return [f"{self._at(part / _BINS):.3g} to {self._at((part + 1) / _BINS):.3g}" for part in range(_BINS)]


def axis_of(name: str, rows: Sequence[TrialRow]) -> Axis:
    """The axis of a parameter, as the trials have it."""
    values = [row.point[name] for row in rows if name in row.point]
    distinct = {label(value): value for value in values}
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if numbers and len(distinct) > _STEPS:
        low, high = float(min(values)), float(max(values))
        return Axis(name, (), low, high, log=low > 0 and high / low > 50)
    order = sorted(distinct, key=lambda text: distinct[text]) if numbers else list(distinct)
    return Axis(name, tuple(order))


# Plots of a sweep, in the style of the report: parallel coordinates, heat maps, importances, validation curves.


_BEST, _OTHER, _STOPPED = 5, 4, 0  # colours of the style sheet
_ROW = 30  # pixels of a row


def parallel_plot(
    metric: str, axes: Sequence[Axis], rows: Sequence[TrialRow], best: int, maximize: bool = True
) -> Plot:
    """A line per trial through its parameters to its metric; the best stands out, the good are stronger than others."""
    import altair as alt

    scored = [row for row in rows if row.value is not None]
    values = [row.value for row in scored if row.value is not None]
    low, high = min(values), max(values)
    across = Axis(metric, (), low, high) if high > low else Axis(metric, (f"{low:.4f}",))
    names = [*(axis.name for axis in axes), metric]
    lines = []
    for row in scored:
        share = 1.0 if high == low else (row.value - low) / (high - low)  # type: ignore[operator]
        goodness = share if maximize else 1 - share
        kind = "best" if row.number == best else "stopped early" if row.state == "stopped early" else "trial"
        last = across.place(row.value) if high > low else 0.5
        places = [*(axis.place(row.point[axis.name]) for axis in axes), last]
        labels = {"trial": f"trial {row.number}", "value": rounded(row.value), "kind": kind}  # type: ignore[arg-type]
        lines += [
            {**labels, "axis": name, "place": rounded(place), "strength": rounded(0.3 + 0.6 * goodness)}
            for name, place in zip(names, places, strict=True)
        ]
    ticks = [
        {"axis": axis.name, "place": rounded(place), "text": text}
        for axis in (*axes, across)
        for place, text in axis.ticks
    ]
    kinds = ["trial", "stopped early", "best"]
    colours = alt.Scale(domain=kinds, range=[colour_variable(each) for each in (_OTHER, _STOPPED, _BEST)])
    axis = alt.Axis(
        orient="top", grid=True, domain=False, ticks=False, labelColor="var(--ink)", labelAngle=0, labelLimit=180
    )
    x = alt.X("axis:N", sort=names, title=None, scale=alt.Scale(type="point", padding=0.35), axis=axis)
    y = alt.Y("place:Q", title=None, axis=None, scale=alt.Scale(domain=[0, 1], nice=False))
    tips = [alt.Tooltip("trial:N"), alt.Tooltip("value:Q", title=metric, format=".4f"), alt.Tooltip("kind:N")]
    base = alt.Chart().encode(x=x, y=y, detail="trial:N", tooltip=tips)
    others = (
        base.transform_filter("datum.kind !== 'best'")
        .mark_line(strokeWidth=1.5)
        .encode(color=alt.Color("kind:N", scale=colours), opacity=alt.Opacity("strength:Q", scale=None))
    )
    front = (
        base.transform_filter("datum.kind === 'best'")
        .mark_line(strokeWidth=3)
        .encode(color=alt.Color("kind:N", scale=colours))
    )
    words = (
        alt.Chart(alt.Data(values=ticks))
        .mark_text(align="left", dx=6, fontSize=11, color="var(--ink)")
        .encode(x=x, y=y, text="text:N")
    )
    spec = plotted(alt.layer(others, front, words), lines, 300, f"parameters of each trial and {metric}")
    legend = [Legend("best", _BEST, "line"), Legend("other trials, stronger the better", _OTHER, "line")]
    if any(row.state == "stopped early" for row in scored):
        legend.append(Legend("stopped early", _STOPPED, "line"))
    return Plot("Parallel coordinates", spec, legend=legend)


def heat_map(metric: str, one: Axis, other: Axis, rows: Sequence[TrialRow], maximize: bool) -> Plot:
    """The mean metric of the trials of each pair of values; the better, the darker.

    A trial that was stopped early counts with the best that it had; a cell of such trials alone has a star.
    """
    import altair as alt

    cells: dict[tuple[str, str], list[float]] = defaultdict(list)
    finished = set()
    for row in rows:
        if row.value is not None:
            pair = one.cell(row.point[one.name]), other.cell(row.point[other.name])
            cells[pair].append(row.value)
            finished |= {pair} if row.state == "done" else set()
    means = {pair: fmean(values) for pair, values in cells.items()}
    low, high = min(means.values(), default=0.0), max(means.values(), default=0.0)
    data = []
    for (x, y), mean in means.items():
        share = 0.5 if high == low else (mean - low) / (high - low)
        strength = 0.05 + 0.45 * (share if maximize else 1 - share)
        text = f"{mean:.4f}" if (x, y) in finished else f"{mean:.4f}*"
        data.append(
            {
                "x": x,
                "y": y,
                "mean": rounded(mean),
                "text": text,
                "trials": len(cells[x, y]),
                "strength": rounded(strength),
            }
        )
    plain: dict[str, Any] = {"ticks": False, "domain": False, "labelColor": "var(--ink)", "labelOverlap": False}
    base = alt.Chart().encode(
        x=alt.X("x:N", sort=one.cells, title=one.name, axis=alt.Axis(**plain, labelAngle=0)),
        y=alt.Y("y:N", sort=list(reversed(other.cells)), title=other.name, axis=alt.Axis(**plain)),
        tooltip=[
            alt.Tooltip("x:N", title=one.name),
            alt.Tooltip("y:N", title=other.name),
            alt.Tooltip("mean:Q", title=f"mean {metric}", format=".4f"),
            alt.Tooltip("trials:Q"),
        ],
    )
    rects = base.mark_rect(color=colour_variable(_OTHER), cornerRadius=2, stroke="var(--card)", strokeWidth=2).encode(
        opacity=alt.Opacity("strength:Q", scale=None)
    )
    words = base.mark_text(fontSize=11, color="var(--ink)").encode(text="text:N")
    title = f"mean by {one.name} × {other.name}"
    spec = plotted(alt.layer(rects, words), data, _ROW * max(2, len(other.cells)), f"{metric}: {title}")
    return Plot(title, spec, note="* stopped early" if len(finished) < len(cells) else "")


def importance_plot(shares: Mapping[str, float]) -> Plot:
    """How much of the metric's variance each parameter explains."""
    import altair as alt

    rows = [{"name": name, "share": rounded(share)} for name, share in shares.items()]
    names = alt.Y(
        "name:N",
        sort=list(shares),
        title=None,
        axis=alt.Axis(ticks=False, domain=False, labelColor="var(--ink)", labelLimit=220),
    )
    chart = (
        alt.Chart()
        .mark_bar(color=colour_variable(_OTHER), cornerRadiusEnd=2, height=14)
        .encode(
            y=names,
            x=alt.X("share:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=3)),
            tooltip=[alt.Tooltip("name:N", title="parameter"), alt.Tooltip("share:Q", format=".1%")],
        )
    )
    return Plot("Importance of parameters", plotted(chart, rows, _ROW * len(rows), "importance by parameter"))


def history_plot(metric: str, rows: Sequence[TrialRow], best: int) -> Plot:
    """What each trial's validations found as training continued."""
    import altair as alt

    data: list[dict[str, Any]] = []
    for row in rows:
        kind = "best" if row.number == best else row.state
        data += [
            {"trial": f"trial {row.number}", "kind": kind, "validation": place, "value": rounded(value)}
            for place, value in enumerate(row.history, start=1)
        ]
    colours = alt.Scale(
        domain=["done", "stopped early", "failed", "running", "best"],
        range=[colour_variable(each) for each in (_OTHER, _STOPPED, 3, 2, _BEST)],
    )
    chart = (
        alt.Chart()
        .mark_line(point=alt.OverlayMarkDef(size=20), strokeWidth=1.5)
        .encode(
            x=alt.X("validation:Q", axis=alt.Axis(grid=False, tickMinStep=1, format="d"), scale=alt.Scale(nice=False)),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            detail="trial:N",
            color=alt.Color("kind:N", scale=colours),
            tooltip=[
                alt.Tooltip("trial:N"),
                alt.Tooltip("kind:N"),
                alt.Tooltip("validation:Q"),
                alt.Tooltip("value:Q", title=metric, format=".4f"),
            ],
        )
    )
    legend = [Legend("best", _BEST, "line"), Legend("done", _OTHER, "line"), Legend("stopped early", _STOPPED, "line")]
    title = f"each trial's {metric} by validation"
    return Plot(title, plotted(chart, data, 240, title), legend=legend)


# ``sweep.html``: one file that shows a sweep, self-contained like a run's report and under the same policy.


_TEMPLATES = Path(__file__).parent / "templates"
_HEAT_MAPS = 15
_FEWEST = 4  # trials from which importances say anything


def write_page(settings: Settings, study: optuna.Study, rows: Sequence[TrialRow]) -> None:
    """Writes the page into the sweep's folder."""
    with atomic_path(settings.folder / "sweep.html") as temporary:
        temporary.write_text(render_page(settings, rows, importances(study)), encoding="utf-8")


def render_page(settings: Settings, rows: Sequence[TrialRow], shares: Mapping[str, float]) -> str:
    """The page of a sweep.

    Args:
        settings: the sweep.
        rows: its trials, the best first.
        shares: importance by parameter; empty where it is not known.
    """
    return html.render_page("sweep.html.j2", lambda: _contents(settings, rows, shares), _TEMPLATES)


def importances(study: optuna.Study) -> dict[str, float]:
    """How much each parameter decides, by PED-ANOVA (arXiv 2304.10255); empty where too few trials are done."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < _FEWEST or len({trial.value for trial in done}) < 2:
        return {}
    try:
        return optuna.importance.get_param_importances(study)
    except (RuntimeError, ValueError, ZeroDivisionError):  # parameters of one value alone
        return {}


def _contents(settings: Settings, rows: Sequence[TrialRow], shares: Mapping[str, float]) -> dict[str, Any]:
    metric = settings.metric
    scored = [row for row in rows if row.value is not None and row.state in ("done", "stopped early")]
    done = [row for row in scored if row.state == "done"]
    best = done[0] if done else None
    names = [name for name in settings.space.names if scored and name in scored[0].point]
    axes = [axis_of(name, scored) for name in names]
    by_weight = sorted(axes, key=lambda axis: -shares.get(axis.name, 0.0))
    pairs = islice(combinations(by_weight, 2), _HEAT_MAPS)
    number_of_best = best.number if best else 0
    histories = [row for row in rows if len(row.history) > 1]
    states: dict[str, int] = {}
    for row in rows:
        states[row.state] = states.get(row.state, 0) + 1
    return {
        "settings": settings,
        "rows": rows,
        "colours": {},
        "label": label,
        "best": best,
        "states": states,
        "seconds": sum(row.seconds or 0.0 for row in rows),
        "parallel": parallel_plot(metric.name, axes, scored, number_of_best, metric.maximize)
        if scored and axes
        else None,
        "heat": [heat_map(metric.name, one, other, scored, metric.maximize) for one, other in pairs] if done else [],
        "pairs": len(axes) * (len(axes) - 1) // 2,
        "importance": importance_plot(shares) if shares else None,
        "history": history_plot(metric.name, histories, number_of_best) if histories else None,
    }
