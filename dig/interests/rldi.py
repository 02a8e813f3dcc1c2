"""RLDI, reward-labelled deep interest: a light binary classifier, taught by behaviour, labels every mined interest.

The paper's classifier, features and threshold are not published. Here: behaviour says of the phrases
with enough support whether sharing them raises co-purchase (:mod:`dig.interests.copurchase`), a logistic regression
carries that over to all interests by features that are not behaviour (:mod:`dig.interests.features`), and its quality
is measured on phrases it never saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from dig.config.schema import LabelConfig
from dig.interests.copurchase import count_copurchases, expected_pairs, lift_bar, observed_pairs, weak_labels
from dig.interests.features import FEATURES, interest_features
from dig.interests.interest import fold_column

__all__ = ["MIN_PHRASES", "label_interests"]

MIN_PHRASES = 10
"""The classifier needs this many labelled phrases of each class."""
EXAMPLES = 10


class _Evidence(NamedTuple):
    """What behaviour says of every distinct folded phrase."""

    phrases: np.ndarray  # (phrases,) str, sorted
    of_interest: np.ndarray  # (interests,) row of phrases
    items: np.ndarray  # (phrases,) items that hold it
    observed: np.ndarray  # (phrases,)
    expected: np.ndarray  # (phrases,)
    labels: np.ndarray  # (phrases,) 1, 0, -1 unlabelled
    bar: float


def _weigh(interests: pl.DataFrame, item_ids: pl.Series, sequences: Sequence[np.ndarray], min_items: int) -> _Evidence:
    folded = fold_column(interests["text"])
    phrases = folded.unique().sort()
    of_interest = folded.replace_strict(phrases, np.arange(len(phrases)), return_dtype=pl.Int64).to_numpy()
    rows = interests["item_id"].replace_strict(item_ids, np.arange(len(item_ids)), return_dtype=pl.Int64).to_numpy()
    shape = (len(phrases), len(item_ids))
    membership = sparse.csr_matrix((np.ones(len(rows)), (of_interest, rows)), shape=shape)
    membership.data[:] = 1.0  # several miners may give one item the same phrase
    items = np.asarray(membership.sum(axis=1)).ravel().astype(np.int64)
    copurchases = count_copurchases(sequences, len(item_ids))
    observed = observed_pairs(membership, copurchases)
    expected = expected_pairs(membership, copurchases.degrees())
    eligible = items >= min_items
    bar = lift_bar(observed[eligible], expected[eligible])
    labels = np.where(eligible, weak_labels(observed, expected, bar), -1)
    return _Evidence(phrases.to_numpy(), of_interest, items, observed, expected, labels, bar)


def _classifier() -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("regression", LogisticRegression(max_iter=1000))])


def _fit(features: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Pipeline:
    return _classifier().fit(features, labels, regression__sample_weight=weights)


def _held_out(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, weights: np.ndarray, config: LabelConfig, seed: int
) -> dict[str, float | int]:
    """Cross-validated quality; a phrase is never in training and test at once.

    Every phrase has weight 1 in all figures, but for ``roc_auc_pairs`` (every interest has weight 1).
    ``roc_auc_rarity`` is what the plain rule "the rarer the better" reaches: the classifier is worth what it adds to
    that.
    """
    probability = np.full(len(labels), np.nan)
    splitter = StratifiedGroupKFold(n_splits=config.folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(features, labels, groups):
        probability[test] = _fit(features[train], labels[train], weights[train]).predict_proba(features[test])[:, 1]
    predicted = probability >= config.threshold
    quality = {"sample_weight": weights, "zero_division": 0.0}
    return {
        "roc_auc": float(roc_auc_score(labels, probability, sample_weight=weights)),
        "roc_auc_pairs": float(roc_auc_score(labels, probability)),
        "roc_auc_rarity": float(
            roc_auc_score(labels, -features[:, FEATURES.index("log_items")], sample_weight=weights)
        ),
        "precision": float(precision_score(labels, predicted, **quality)),
        "recall": float(recall_score(labels, predicted, **quality)),
        "base_rate": float(np.average(labels, weights=weights)),
        "threshold": config.threshold,
        "folds": config.folds,
        "phrases": len(np.unique(groups)),
        "interests": len(labels),
    }


def _examples(evidence: _Evidence, score: np.ndarray, threshold: float) -> dict[str, list[dict[str, Any]]]:
    """The labelled phrases that the classifier keeps and rejects most surely, with what behaviour says of them."""
    counts = np.bincount(evidence.of_interest, minlength=len(evidence.phrases))
    mean = np.bincount(evidence.of_interest, score, len(evidence.phrases)) / np.maximum(counts, 1)
    order = [row for row in np.argsort(-mean, kind="stable") if evidence.labels[row] >= 0]

    def show(rows: list[int]) -> list[dict[str, Any]]:
        return [
            {
                "text": str(evidence.phrases[row]),
                "items": int(evidence.items[row]),
                "score": round(float(mean[row]), 4),
                "lift": round(float(evidence.observed[row] / evidence.expected[row]), 2),
                "weak_label": int(evidence.labels[row]),
            }
            for row in rows
        ]

    kept = [row for row in order if mean[row] >= threshold][:EXAMPLES]
    rejected = [row for row in reversed(order) if mean[row] < threshold][:EXAMPLES]
    return {"kept": show(kept), "rejected": show(rejected)}


def _all_positive(interests: pl.DataFrame, report: dict[str, Any], why: str) -> tuple[pl.DataFrame, dict[str, Any]]:
    labelled = interests.with_columns(label=pl.lit(1, dtype=pl.Int8), score=pl.lit(None, dtype=pl.Float64))
    report |= {"classifier": why, "positive_interests": interests.height}
    return labelled.select(interests.columns), report


def _obstacle(labels: np.ndarray, config: LabelConfig) -> str | None:
    """Why the labelled phrases cannot teach a classifier, or None."""
    positive, negative = int((labels == 1).sum()), int((labels == 0).sum())
    needed = max(MIN_PHRASES, config.folds)
    if min(positive, negative) >= needed:
        return None
    return (
        f"not trained: behaviour calls {positive} phrases good and {negative} not, "
        f"at least {needed} of each are needed; all interests count as positive"
    )


def label_interests(
    interests: pl.DataFrame,
    catalogue: pl.DataFrame,
    captions: Mapping[str, str],
    train_sequences: Sequence[np.ndarray],
    config: LabelConfig,
    seed: int,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Labels every interest 1 or 0 with a probability.

    Where no classifier can be trained (``config.enabled`` is off, no interests, too few phrases of a class) all labels
    are 1, all scores null, and ``report["classifier"]`` says why.

    Args:
        interests: :data:`~dig.interests.interest.INTEREST_SCHEMA`, all miners together.
        catalogue: the items; rows of ``train_sequences`` are its rows.
        captions: item id → caption.
        train_sequences: one int array of catalogue rows a user, in order, **without** both held-out items.
        config: threshold, folds, min_items, enabled.
        seed: of the folds.

    Returns:
        The interests in the same order with ``label`` and ``score``, and a report of plain values:
        ``classifier`` ("logistic regression" or "not trained: …"), ``interests``, ``phrases``, ``positive_interests``,
        and where behaviour was asked ``weak_labels`` (positive, negative, unlabelled phrases; lift_bar), and where
        trained ``held_out`` (roc_auc, roc_auc_pairs, roc_auc_rarity, precision, recall, base_rate, threshold, folds,
        phrases, interests), ``coefficients`` (feature → weight on the standardised feature, the most telling first),
        ``examples`` (kept, rejected).

    Raises:
        ValueError: if an interest or a sequence names an item outside the catalogue.
    """
    report: dict[str, Any] = {
        "interests": interests.height,
        "phrases": fold_column(interests["text"]).n_unique(),
    }
    if not config.enabled:
        return _all_positive(interests, report, "not trained: labels.enabled is false; all interests count as positive")
    if interests.is_empty():
        return _all_positive(interests, report, "not trained: there are no interests")
    features = interest_features(interests, catalogue, captions)
    evidence = _weigh(interests, catalogue["item_id"], train_sequences, config.min_items)
    report["weak_labels"] = {
        "positive": int((evidence.labels == 1).sum()),
        "negative": int((evidence.labels == 0).sum()),
        "unlabelled": int((evidence.labels == -1).sum()),
        "lift_bar": round(evidence.bar, 3),
    }
    if obstacle := _obstacle(evidence.labels, config):
        return _all_positive(interests, report, obstacle)

    labels = evidence.labels[evidence.of_interest]
    known = labels >= 0
    groups = evidence.of_interest[known]
    weights = 1.0 / np.bincount(groups)[groups]
    report["held_out"] = _held_out(features[known], labels[known], groups, weights, config, seed)
    model = _fit(features[known], labels[known], weights)
    score = model.predict_proba(features)[:, 1]
    coefficients = model.named_steps["regression"].coef_[0]
    order = np.argsort(-np.abs(coefficients), kind="stable")
    positive = score >= config.threshold
    report |= {
        "classifier": "logistic regression",
        "positive_interests": int(positive.sum()),
        "coefficients": {FEATURES[row]: round(float(coefficients[row]), 4) for row in order},
        "examples": _examples(evidence, score, config.threshold),
    }
    return interests.with_columns(label=pl.Series(positive.astype(np.int8)), score=pl.Series(score)), report
