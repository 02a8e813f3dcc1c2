"""Learning curves of all stages that left a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dig.report.curves import curve_plots, log_lines
from dig.report.data import ReportData
from dig.report.plots.lines import lines_plot
from dig.report.plots.style import Plot

__all__ = ["learning_curves", "of_rollouts"]

_TELLING = ("HR", "NDCG", "MRR", "codebook usage", "codebook perplexity", "codebook collision rate")
"""Titles of plots that are not folded away, beside losses."""
_OF_ROLLOUTS = ("train/kl", "train/entropy", "train/clip_share", "train/ratio")


def of_rollouts(stage: str, metric: str) -> bool:
    """Whether a metric tells of GRPO's rollouts, which have a part of their own."""
    return stage == "grpo" and (metric.startswith("rollout/") or metric in _OF_ROLLOUTS)


def learning_curves(data: ReportData) -> dict[str, Any]:
    """Plots by stage: those that tell how well it goes, and the others to be folded away."""
    found = {stage: plots for stage, rows in data.curves.items() if (plots := _plots(stage, rows))}
    return {
        "stages": {
            stage: ([plot for plot in plots if _tells(plot)], [plot for plot in plots if not _tells(plot)])
            for stage, plots in found.items()
        }
    }


def _tells(plot: Plot) -> bool:
    return "loss" in plot.title or plot.title in _TELLING


def _plots(stage: str, rows: Sequence[Mapping[str, Any]]) -> list[Plot]:
    lines = {name: points for name, points in log_lines(rows).items() if not of_rollouts(stage, name)}
    return [lines_plot(plot) for plot in curve_plots(lines)]
