"""GRPO: what its rollouts earned and whether they still teach, and groups of them told in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dig.report.curves import CurvePlot, Line, curve_plots, log_lines, thinned
from dig.report.data import ReportData
from dig.report.formats import words
from dig.report.plots.lines import lines_plot
from dig.report.plots.style import Plot
from dig.report.sections.curves import of_rollouts
from dig.report.thumbnails import Thumbnails

__all__ = ["rollouts"]

_TERM = "rollout/reward_"
_MEANS = {
    "rollout reward": "mean reward of a rollout, all terms together",
    "KL": "how far the policy has moved from its reference",
    "entropy": "how undecided the policy is, in nats",
    "rollout dead groups": "groups whose rollouts all earned the same, which teach nothing",
    "rollout groups with hit": "groups in which the target was rolled out",
    "rollout distinct items": "different items of a group, as a share",
    "rollout hits": "rollouts that are the target",
    "rollout surprise": "surprise of the policy at its own rollouts, in nats",
    "clip share": "tokens whose ratio was cut off",
    "ratio": "new over old probability of what was rolled out",
}


def rollouts(data: ReportData) -> dict[str, Any]:
    """Plots of the log and the groups that were told."""
    lines = log_lines(data.curves.get("grpo", ()))
    return {
        "plots": _plots(lines),
        "groups": data.groups,
        "thumbnail": Thumbnails(data.pictures, most=120),
        "trained": "grpo" in data.curves or "grpo" in data.metrics,
    }


def _plots(lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[Plot]:
    """The reward and its terms, then how far and how sure the policy is, then what its groups still teach."""
    others = _others(lines)
    first = [plot for plot in others if plot.title == "reward"]
    return [*first, *_by_term(lines), *(plot for plot in others if plot not in first)]


def _by_term(lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[Plot]:
    terms = {name.removeprefix(_TERM): points for name, points in lines.items() if name.startswith(_TERM)}
    if not terms:
        return []
    drawn = [Line(words(name), thinned(points)) for name, points in terms.items()]
    return [lines_plot(CurvePlot("reward by term", drawn, log=False, note="weighted, as they add up to the reward"))]


def _others(lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[Plot]:
    rest = {name: points for name, points in lines.items() if of_rollouts("grpo", name) and not name.startswith(_TERM)}
    plots = []
    for found in curve_plots(rest):
        note = " · ".join(filter(None, (_MEANS.get(found.title, ""), found.note)))
        plots.append(lines_plot(CurvePlot(found.title.removeprefix("rollout "), found.lines, found.log, note)))
    return plots
