"""RLDI's light binary classifier: a calibrated logistic regression whose regularisation is chosen by cross-validation.

A phrase is never in training and test at once, in none of the nested cross-validations.

Measured against scikit-learn's gradient-boosted trees on held-out phrases, the mean of Beauty, Sports and three
quickstart shops: ROC-AUC .958 (trees .963, calibrated .949), Brier score .039 (.041, .041), calibration error .019
(.030, .031), in a tenth of the time. There are hundreds of labelled phrases, not thousands; for the same reason Platt's
two numbers calibrate better than isotonic steps, which cost .006 of the ROC-AUC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dig.engine.lazy import sklearn
from dig.interests.calibration import PlattScaling, fit_platt

__all__ = ["Classifier", "cross_validate", "held_out_probability", "train"]

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of regularisation that are tried."""
INNER_FOLDS = 3
PER_PHRASE = 20
"""At most so many interests of a phrase are trained on; they share its weight, and say nearly the same."""


class Examples(NamedTuple):
    """Labelled interests."""

    features: np.ndarray  # (rows, features)
    labels: np.ndarray  # (rows,) 0 or 1
    groups: np.ndarray  # (rows,) phrases
    weights: np.ndarray  # (rows,)

    def take(self, rows: np.ndarray) -> Examples:
        """Some of the rows."""
        return Examples(*(column[rows] for column in self))

    def thinned(self, seed: int) -> Examples:
        """At most :data:`PER_PHRASE` rows a phrase, drawn by the seed, with the weight of all of them."""
        order = np.random.default_rng(seed).permutation(len(self.labels))
        order = order[np.argsort(self.groups[order], kind="stable")]
        _, starts, sizes = np.unique(self.groups[order], return_index=True, return_counts=True)
        kept = np.sort(order[np.arange(len(order)) - np.repeat(starts, sizes) < PER_PHRASE])
        few = self.take(kept)
        totals, left = (np.bincount(each.groups, each.weights) for each in (self, few))
        return few._replace(weights=few.weights * (totals / np.where(left > 0, left, 1.0))[few.groups])


class Classifier(NamedTuple):
    """A trained classifier."""

    pipeline: sklearn.pipeline.Pipeline
    platt: PlattScaling
    strength: float
    """The inverse strength of regularisation that was chosen."""

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probabilities ``(rows,)`` that interests are good."""
        return self.platt(self.pipeline.predict_proba(features)[:, 1])

    @property
    def weights(self) -> np.ndarray:
        """(features,) weights on the standardised features: change of the log odds by one standard deviation."""
        return self.pipeline.named_steps["regression"].coef_[0] * self.platt.slope


def train(examples: Examples, seed: int) -> Classifier:
    """Chooses the regularisation by the held-out log loss, and calibrates on the same held-out predictions."""
    few = examples.thinned(seed)
    held_out = held_out_probability(few, INNER_FOLDS, seed, _fit_all)
    losses = [
        sklearn.metrics.log_loss(few.labels, found, sample_weight=few.weights, labels=[0, 1]) for found in held_out.T
    ]
    best = int(np.argmin(losses))  # of equal losses the stronger regularisation
    platt = fit_platt(held_out[:, best], few.labels, few.weights)
    return Classifier(_fit(few, STRENGTHS[best]), platt, STRENGTHS[best])


def cross_validate(examples: Examples, folds: int, seed: int) -> np.ndarray:
    """``(rows,)`` what classifiers that were trained, tuned and calibrated on other phrases say of each row."""
    return held_out_probability(examples, folds, seed, lambda part: train(part, seed).probability)


def held_out_probability(
    examples: Examples, folds: int, seed: int, fit: Callable[[Examples], Callable[[np.ndarray], np.ndarray]]
) -> np.ndarray:
    """Probabilities of every row, by a model that saw no row of its phrase.

    Args:
        examples: what is cut into folds, stratified and never through a phrase.
        folds: how many.
        seed: of the folds.
        fit: from the training part to a function from features to probabilities, ``(rows,)`` or ``(rows, models)``.

    Returns:
        ``(rows,)``, or ``(rows, models)``.
    """
    splitter = sklearn.model_selection.StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    parts = list(splitter.split(examples.features, examples.labels, examples.groups))
    found = np.concatenate([fit(examples.take(kept))(examples.features[left]) for kept, left in parts])
    return found[np.argsort(np.concatenate([left for _, left in parts]))]


def _fit_all(examples: Examples) -> Callable[[np.ndarray], np.ndarray]:
    models = [_fit(examples, strength) for strength in STRENGTHS]
    return lambda features: np.column_stack([model.predict_proba(features)[:, 1] for model in models])


def _fit(examples: Examples, strength: float) -> sklearn.pipeline.Pipeline:
    steps = [
        ("scale", sklearn.preprocessing.StandardScaler()),
        ("regression", sklearn.linear_model.LogisticRegression(C=strength, max_iter=1000)),
    ]
    return sklearn.pipeline.Pipeline(steps).fit(
        examples.features, examples.labels, regression__sample_weight=examples.weights
    )
