"""Visual interests: which phrases an open_clip model sees in a picture, with a confidence that means something."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from dig.config.errors import UserError
from dig.engine.console import warn
from dig.engine.folding import fold
from dig.engine.lazy import sklearn
from dig.interests.classifier import calibration_error, reliability
from dig.interests.interest import fold_column, mined_frame

__all__ = ["MINER", "VisualInterests", "frequent_phrases", "read_vocabulary", "visual_interests"]

MINER = "openclip"
_VOCABULARY = "visual_vocabulary.txt"
_MIN_POSITIVES = 30
"""This many pairs of a picture and a phrase of its item's own text are needed before a confidence can be calibrated."""
_NEGATIVES = 20
"""Negatives a positive, at most, that the calibration looks at; weights put the base rate back."""
_FOLDS = 5
_LONGEST = 200


class VisualInterests(NamedTuple):
    """Visual interests (``INTEREST_SCHEMA``) and how well their confidence holds on items it was not fitted on."""

    interests: pl.DataFrame
    report: dict[str, Any]


def read_vocabulary(path: Path | None) -> list[str]:
    """Phrases of a file, one per line; empty lines and lines from ``#`` on count for nothing, a repeated phrase once.

    Args:
        path: the file; None takes the list that comes with the project.

    Raises:
        UserError: the file is missing, is not UTF-8 text or holds no phrase.
    """
    try:
        text = path.read_text("utf-8") if path else (files("dig.interests") / _VOCABULARY).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"visual.vocabulary={path} cannot be read: {type(error).__name__}") from error
    lines = [" ".join(line.split("#")[0].split())[:_LONGEST] for line in text.splitlines()]
    phrases: dict[str, str] = {}
    given = [line for line in lines if line]
    for line in given:
        phrases.setdefault(fold(line), line)
    if not phrases:
        raise UserError(f"visual.vocabulary={path} holds no phrase")
    if len(phrases) < len(given):
        warn(f"visual.vocabulary={path}: {len(given) - len(phrases)} of {len(given)} phrases are repeats, counted once")
    return list(phrases.values())


def frequent_phrases(interests: pl.DataFrame, limit: int) -> list[str]:
    """The texts that most items share, the most frequent first and ties by text; each in its commonest wording."""
    if interests.is_empty() or limit == 0:
        return []
    folded = interests.with_columns(fold_column(interests["text"]).alias("folded"))
    ranked = folded.group_by("folded").agg(pl.col("item_id").n_unique().alias("items"), pl.col("text").mode().min())
    ranked = ranked.filter(pl.col("items") > 1).sort(["items", "folded"], descending=[True, False])
    return ranked["text"].head(limit).to_list()


def visual_interests(
    item_ids: list[str],
    similarity: np.ndarray,
    phrases: list[str],
    mined: pl.DataFrame,
    limit: int,
    min_confidence: float,
) -> VisualInterests:
    """The best phrases of every picture.

    Raw cosines of open_clip depend on the phrase more than on the picture, so each is measured against the phrase's own
    mean and spread over all pictures, and against the picture's over all phrases. A logistic regression turns both into
    the probability that the item's own text says the phrase: its interests from other miners are the truth that it is
    fitted to. Where they are too few, interests have no confidence, and those at least two spreads above come first.

    Args:
        item_ids: ``(pictures,)`` the items.
        similarity: ``(pictures, phrases)`` cosines.
        phrases: the vocabulary.
        mined: interests of other miners.
        limit: interests per item at most.
        min_confidence: less confident ones are left out.
    """
    features = _features(similarity)
    truth = _truth(item_ids, phrases, mined)
    scores, report = _calibrate(features, truth)
    report |= {"pictures": len(item_ids), "phrases": len(phrases)}
    threshold = min_confidence
    if scores is None:
        scores, threshold = features[..., 0], 2.0
    best = np.argsort(-scores, axis=1, kind="stable")[:, :limit]
    rows = [
        (item_ids[row], phrases[column], "visual", float(scores[row, column]) if report["calibrated"] else None, MINER)
        for row in range(len(item_ids))
        for column in best[row]
        if scores[row, column] >= threshold
    ]
    return VisualInterests(mined_frame(rows), report)


def _features(similarity: np.ndarray) -> np.ndarray:
    """``(pictures, phrases, 2)``: spreads above the phrase's mean, and of that above the picture's."""
    by_phrase = _standard(similarity.astype(np.float64), axis=0)
    return np.stack([by_phrase, _standard(by_phrase, axis=1)], axis=-1)


def _standard(values: np.ndarray, axis: int) -> np.ndarray:
    spread = values.std(axis=axis, keepdims=True)
    return (values - values.mean(axis=axis, keepdims=True)) / np.where(spread > 1e-9, spread, 1.0)


def _truth(item_ids: list[str], phrases: list[str], mined: pl.DataFrame) -> np.ndarray:
    """``(pictures, phrases)`` bool: the item's own text says the phrase."""
    rows = {item_id: row for row, item_id in enumerate(item_ids)}
    columns = {fold(phrase): column for column, phrase in enumerate(phrases)}
    truth = np.zeros((len(item_ids), len(phrases)), dtype=bool)
    folded = fold_column(mined["text"])
    for item_id, text in zip(mined["item_id"], folded, strict=True):
        if item_id in rows and text in columns:
            truth[rows[item_id], columns[text]] = True
    return truth


def _calibrate(features: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Probabilities ``(pictures, phrases)``, or None where there is too little to learn from."""
    said = truth.any(axis=0)  # of a phrase that no text says nothing can be learned
    positives = int(truth.sum())
    report: dict[str, Any] = {"calibrated": False, "positives": positives}
    if positives < _MIN_POSITIVES or said.sum() < 2 or len(truth) < _FOLDS:
        return None, report
    pictures, columns = np.nonzero(np.broadcast_to(said, truth.shape))
    labels = truth[pictures, columns]
    rate = min(1.0, _NEGATIVES * positives / (~labels).sum())
    mask = labels | (np.random.default_rng(0).random(len(labels)) < rate)
    pictures, columns, labels = pictures[mask], columns[mask], labels[mask]
    weights = np.where(labels, 1.0, 1.0 / rate)
    given = features[pictures, columns]
    held_out = np.zeros(len(labels))
    for train, test in sklearn.model_selection.GroupKFold(_FOLDS).split(given, labels, groups=pictures):
        held_out[test] = _fit(given[train], labels[train], weights[train])(given[test])
    bins = reliability(held_out, labels, weights, split=np.ones(len(labels)))
    report |= {
        "calibrated": True,
        "base_rate": round(float(np.average(labels, weights=weights)), 5),
        "roc_auc": round(float(sklearn.metrics.roc_auc_score(labels, held_out, sample_weight=weights)), 4),
        "calibration_error": round(calibration_error(bins), 5),
    }
    probability = _fit(given, labels, weights)(features.reshape(-1, features.shape[-1]))
    return probability.reshape(truth.shape), report


def _fit(features: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Any:
    model = sklearn.linear_model.LogisticRegression(max_iter=1000).fit(features, labels, sample_weight=weights)
    return lambda given: model.predict_proba(given)[:, 1]
