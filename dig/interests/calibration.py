"""Do probabilities keep what they promise? Bins of a reliability plot, the calibration error, and Platt's remedy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dig.engine.lazy import scipy, sklearn

__all__ = ["Bin", "PlattScaling", "calibration_error", "fit_platt", "reliability"]

_EDGE = 1e-6
"""Probabilities are kept this far from 0 and 1 where their log odds are taken."""


class Bin(NamedTuple):
    """A point of a reliability plot."""

    predicted: float
    """Mean probability."""
    observed: float
    """Share that came true."""
    weight: float
    """Share of all weight."""


def reliability(
    probability: np.ndarray, labels: np.ndarray, weights: np.ndarray, bins: int = 10, split: np.ndarray | None = None
) -> list[Bin]:
    """Predicted against observed in bins of neighbouring probabilities, ascending; empty bins are left out.

    Equal probabilities stay in one bin, so the order of the rows doesn't count.

    Args:
        probability: ``(rows,)`` in [0, 1].
        labels: ``(rows,)`` 0 or 1.
        weights: ``(rows,)``, above 0.
        bins: the most bins.
        split: ``(rows,)`` of what every bin gets as good as the same; the weights unless given.
    """
    if not len(probability):
        return []
    of = np.unique(probability, return_inverse=True)[1]
    mass = np.bincount(of, weights if split is None else split)
    middles = (np.cumsum(mass) - mass / 2) / mass.sum()
    place = np.minimum((middles * bins).astype(np.int64), bins - 1)[of]
    total = np.bincount(place, weights, bins)
    filled = total > 0
    means = [np.bincount(place, weights * what, bins)[filled] / total[filled] for what in (probability, labels)]
    return [Bin(*map(float, row)) for row in zip(*means, total[filled] / total.sum(), strict=True)]


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: the mean distance of promise and outcome, ``Σ_b w_b·|predicted_b − observed_b|``."""
    return float(sum(each.weight * abs(each.predicted - each.observed) for each in bins))


class PlattScaling(NamedTuple):
    """Probability = σ(slope · log odds + offset) (Platt, 1999)."""

    slope: float
    offset: float

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of raw ones, ``(rows,)``; the order of rows stays where the slope is positive."""
        return scipy.special.expit(self.slope * _log_odds(probability) + self.offset)


def fit_platt(probability: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> PlattScaling:
    """Fits the scaling on probabilities of rows that their model was **not** trained on.

    Where the probabilities say nothing or the opposite of the labels, they stay as they are: turning them round would
    be learning from the sample that is to be measured.
    """
    model = sklearn.linear_model.LogisticRegression(C=1e4, max_iter=1000)
    model.fit(_log_odds(probability)[:, None], labels, sample_weight=weights)
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    return PlattScaling(slope, offset) if slope > 0 else PlattScaling(1.0, 0.0)


def _log_odds(probability: np.ndarray) -> np.ndarray:
    return scipy.special.logit(np.clip(probability, _EDGE, 1 - _EDGE))
