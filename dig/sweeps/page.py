"""``sweep.html``: one file that shows a sweep, self-contained like a run's report and under the same policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import optuna
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from optuna.trial import TrialState

import dig.report
from dig.engine.artifacts import atomic_path
from dig.report.formats import duration, metric_name, number, recommender_name, shorten, slug, words
from dig.report.plots.style import CONFIG
from dig.report.scripts import content_policy, finalize, json_block, vega_bundle
from dig.sweeps.axes import axis_of, label
from dig.sweeps.plots import heat_map, history_plot, importance_plot, parallel_plot
from dig.sweeps.results import TrialRow
from dig.sweeps.settings import Settings

__all__ = ["importances", "render_page", "write_page"]

_OURS = Path(__file__).parent / "templates"
_REPORT = Path(dig.report.__file__).parent / "templates"
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
    environment = Environment(
        loader=FileSystemLoader([_OURS, _REPORT]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        duration=duration,
        words=words,
        metric=metric_name,
        recommender=recommender_name,
        shorten=shorten,
        slug=slug,
        json_block=json_block,
        label=label,
    )
    from altair.utils.schemapi import debug_mode

    with debug_mode(False):  # tests hold the plots to the schema
        contents = _contents(settings, rows, shares)
    style, scripts = (
        (_REPORT / "style.css").read_text("utf-8"),
        [vega_bundle(), (_REPORT / "page.js").read_text("utf-8")],
    )
    return environment.get_template("sweep.html.j2").render(
        settings=settings,
        rows=rows,
        colours={},
        **contents,
        config=CONFIG,
        policy=Markup(content_policy(scripts, [style])),  # noqa: S704 - hashes and our own words
        style=Markup(style),  # noqa: S704 - our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - our own file and the library
    )


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
