"""W&B's ``early_terminate: hyperband`` as a pruner of Optuna.

W&B's is no bracketed Hyperband: at each band a trial must be among the best ``1/eta`` of all that came so far. The rule
is that of its package `sweeps`, version 0.3.0 (``hyperband_stop_runs``), and a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import optuna
from optuna.study import StudyDirection

from dig.sweeps.file import Bands

__all__ = ["BandPruner", "falls_behind"]


class BandPruner(optuna.pruners.BasePruner):
    """Stops a trial that falls behind at the last band that it reached.

    Args:
        bands: where and how many.
    """

    def __init__(self, bands: Bands) -> None:
        self.bands = bands

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the trial should stop, judged by all trials of the study."""
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        others = [each for each in study.get_trials(deepcopy=False) if each.number != trial.number]
        return falls_behind(
            [sign * value for value in _history(trial)],
            [[sign * value for value in _history(each)] for each in others],
            self.bands,
        )


def falls_behind(history: Sequence[float], others: Sequence[Sequence[float]], bands: Bands) -> bool:
    """Whether a history, of which less is better, is not among the best ``1/eta`` at its last band.

    Args:
        history: its values, one a validation.
        others: those of all other trials, finished, stopped and running.
        bands: the rule.
    """
    reached = [band for band in bands.at if band <= len(history)]
    if not reached:
        return False
    band = reached[-1]
    values = sorted(each[band - 1] for each in (history, *others) if len(each) >= band)
    threshold = values[int(len(values) / bands.eta)]
    return (history[band - 1] if bands.strict else min(history)) > threshold


def _history(trial: optuna.trial.FrozenTrial) -> list[float]:
    """Values by validation; a number that is missing counts as the one before it."""
    found: list[float] = []
    for step in range(1, (trial.last_step or 0) + 1):
        value = trial.intermediate_values.get(step, found[-1] if found else math.nan)
        found.append(value)
    return [value for value in found if math.isfinite(value)]
