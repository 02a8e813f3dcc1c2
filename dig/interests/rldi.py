"""RLDI, reward-labelled deep interest: a light binary classifier labels every mined interest.

The paper's classifier, features and threshold are not published (DeepInterestGR, arXiv 2602.18907). Here three sources
can teach it (:mod:`dig.interests.supervision`): behaviour says of the phrases with enough support whether sharing them
raises co-purchase; or a judge, or a person, says of some interests whether they are good. A calibrated logistic
regression (:mod:`dig.interests.classifier`) carries that over to all interests, and its quality is measured on phrases
it never saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from dig.config.schema import LabelConfig
from dig.engine.lazy import sklearn
from dig.interests.classifier import Classifier, Examples, calibration_error, cross_validate, reliability, train
from dig.interests.features import (
    FEATURES,
    VECTOR_FEATURES,
    InterestVectors,
    TextsOfItems,
    interest_features,
    read_items,
    vector_features,
    word_rarity,
)
from dig.interests.interest import fold_column
from dig.interests.supervision import PhraseEvidence, Supervision, by_behaviour, by_verdicts, weigh_phrases

__all__ = ["label_interests"]

EXAMPLES = 10
"""Phrases kept, and rejected, that the report shows; and features."""
_ALSO = {"votes": "miners that found it", "specificity": "how rare its words are", "rarest_word": "its rarest word"}
_LIFT = {"log_lift": "co-purchase of its items above chance"}


class _Seen(NamedTuple):
    values: np.ndarray  # (interests, features)
    meanings: dict[str, str]  # name → meaning, a column each

    def also(self, values: np.ndarray, meanings: dict[str, str]) -> _Seen:
        """With further columns."""
        return _Seen(np.hstack([self.values, values]), self.meanings | meanings)


def label_interests(
    interests: pl.DataFrame,
    catalogue: pl.DataFrame,
    captions: Mapping[str, str],
    train_sequences: Sequence[np.ndarray],
    config: LabelConfig,
    seed: int,
    vectors: InterestVectors | None = None,
    verdicts: np.ndarray | None = None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Labels every interest 1 or 0 with a probability.

    An interest with a verdict keeps it as its label; the classifier labels all others. Where none can be trained
    (``config.enabled`` is off, no interests, too few phrases of a class) all other labels are 1, all scores null, and
    ``report["classifier"]`` says why. How co-purchase rises is a feature only where verdicts teach: beside labels that
    behaviour gave it would predict itself.

    Args:
        interests: :data:`~dig.interests.interest.INTEREST_SCHEMA`, all miners together.
        catalogue: the items; rows of ``train_sequences`` are its rows.
        captions: item id → caption.
        train_sequences: one int array of catalogue rows per user, in order, **without** both held-out items.
        config: source, threshold, folds, min_items, enabled.
        seed: of folds and samples.
        vectors: of phrases and items; without them the features that need any are left out.
        verdicts: ``(interests,)`` 1, 0 or -1 (not judged); needed unless ``config.source`` is behaviour.

    Returns:
        The interests in the same order with ``label`` and ``score``, and a report of plain values:
        ``classifier`` ("logistic regression" or "not trained: …"), ``source``, ``interests``, ``phrases``,
        ``positive_interests``; where labels were asked for ``weak_labels`` (positive, negative, unlabelled phrases;
        lift_bar) or ``verdicts`` (positive, negative, unlabelled interests); and where trained ``held_out`` (roc_auc,
        roc_auc_pairs, roc_auc_rarity, precision, recall, base_rate, threshold, brier, calibration_error, folds,
        phrases, interests), ``reliability`` (predicted, observed, weight per bin, on held-out phrases), ``features``
        (name, meaning, weight on the standardised feature, the most telling first), ``examples`` (kept, rejected).

    Raises:
        ValueError: if an interest or a sequence names an item outside the catalogue, or verdicts are missing.
    """
    report: dict[str, Any] = {
        "source": config.source,
        "interests": interests.height,
        "phrases": fold_column(interests["text"]).n_unique(),
    }
    if not config.enabled:
        return _all_positive(interests, report, "not trained: labels.enabled is false; all interests count as positive")
    if interests.is_empty():
        return _all_positive(interests, report, "not trained: there are no interests")
    texts = read_items(catalogue, captions)
    plain = interest_features(interests, texts)  # refuses items that the catalogue lacks
    evidence = weigh_phrases(interests, catalogue["item_id"], train_sequences)
    supervision = _supervise(evidence, config, verdicts, report)
    if obstacle := supervision.obstacle(config.folds):
        return _all_positive(interests, report, obstacle, supervision)

    seen = _Seen(plain, FEATURES)
    if vectors is not None:
        seen = seen.also(_commonness(interests, texts, evidence), _ALSO)
        seen = seen.also(vector_features(evidence, catalogue, vectors, seed), VECTOR_FEATURES)
    if supervision.binding:
        seen = seen.also(evidence.log_lift[evidence.of_interest][:, None], _LIFT)
    labelled = supervision.labels >= 0
    examples = Examples(seen.values, supervision.labels, supervision.groups, supervision.weights).take(labelled)
    report |= _quality(examples, config, seed)
    classifier = train(examples, seed)
    score = classifier.probability(seen.values)
    label = np.where(labelled & supervision.binding, supervision.labels, score >= config.threshold).astype(np.int8)
    report |= {
        "classifier": "logistic regression",
        "positive_interests": int(label.sum()),
        "features": _telling(classifier, seen.meanings),
        "examples": _examples(evidence, supervision, score, config.threshold, catalogue),
    }
    return interests.with_columns(label=pl.Series(label), score=pl.Series(score)), report


def _commonness(interests: pl.DataFrame, texts: TextsOfItems, evidence: PhraseEvidence) -> np.ndarray:
    rarity = word_rarity(texts, evidence.phrases.tolist())[evidence.of_interest]
    return np.column_stack([interests["votes"].to_numpy(), rarity])


def _supervise(
    evidence: PhraseEvidence, config: LabelConfig, verdicts: np.ndarray | None, report: dict[str, Any]
) -> Supervision:
    if config.source != "behaviour":
        if verdicts is None:
            raise ValueError(f"labels.source={config.source} needs verdicts")
        supervision = by_verdicts(evidence, verdicts, config.source)
        report["verdicts"] = _count(supervision.labels)
        return supervision
    supervision, bar = by_behaviour(evidence, config.min_items)
    of_phrase = np.empty(len(evidence.phrases), dtype=np.int8)
    of_phrase[evidence.of_interest] = supervision.labels
    report["weak_labels"] = _count(of_phrase) | {"lift_bar": round(bar, 3)}
    return supervision


def _count(labels: np.ndarray) -> dict[str, float]:
    return {name: int((labels == each).sum()) for name, each in (("positive", 1), ("negative", 0), ("unlabelled", -1))}


def _all_positive(
    interests: pl.DataFrame, report: dict[str, Any], why: str, supervision: Supervision | None = None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    label = np.ones(interests.height, dtype=np.int8)
    if supervision is not None and supervision.binding:
        label[supervision.labels == 0] = 0
    labelled = interests.with_columns(label=pl.Series(label), score=pl.lit(None, dtype=pl.Float64))
    return labelled, report | {"classifier": why, "positive_interests": int(label.sum())}


def _quality(examples: Examples, config: LabelConfig, seed: int) -> dict[str, Any]:
    """Cross-validated quality; a phrase is never in training and test at once.

    Labels of behaviour weigh 1 per phrase in all figures but ``roc_auc_pairs`` (1 per interest). ``roc_auc_rarity`` is
    what the plain rule "the rarer the better" reaches: the classifier is worth what it adds to that.
    """
    labels, weights = examples.labels, examples.weights
    probability = cross_validate(examples, config.folds, seed)
    predicted = probability >= config.threshold
    rarity = -examples.features[:, list(FEATURES).index("log_items")]
    bins = reliability(probability, labels, weights)
    quality = {"sample_weight": weights, "zero_division": 0.0}
    held_out = {
        "roc_auc": float(sklearn.metrics.roc_auc_score(labels, probability, sample_weight=weights)),
        "roc_auc_pairs": float(sklearn.metrics.roc_auc_score(labels, probability)),
        "roc_auc_rarity": float(sklearn.metrics.roc_auc_score(labels, rarity, sample_weight=weights)),
        "precision": float(sklearn.metrics.precision_score(labels, predicted, **quality)),
        "recall": float(sklearn.metrics.recall_score(labels, predicted, **quality)),
        "base_rate": float(np.average(labels, weights=weights)),
        "threshold": config.threshold,
        "brier": float(np.average((probability - labels) ** 2, weights=weights)),
        "calibration_error": calibration_error(bins),
        "folds": config.folds,
        "phrases": len(np.unique(examples.groups)),
        "interests": len(labels),
    }
    shown = [{name: round(value, 4) for name, value in each._asdict().items()} for each in bins]
    return {"held_out": held_out, "reliability": shown}


def _telling(classifier: Classifier, meanings: dict[str, str]) -> list[dict[str, Any]]:
    names, weights = list(meanings), classifier.weights
    order = np.argsort(-np.abs(weights), kind="stable")
    return [{"name": names[at], "meaning": meanings[names[at]], "weight": round(float(weights[at]), 4)} for at in order]


def _examples(
    evidence: PhraseEvidence, supervision: Supervision, score: np.ndarray, threshold: float, catalogue: pl.DataFrame
) -> dict[str, list[dict[str, Any]]]:
    """The labelled phrases that the classifier keeps and rejects most surely, with an item and what behaviour says."""
    of, labelled, phrases = evidence.of_interest, supervision.labels >= 0, len(evidence.phrases)
    mean = np.bincount(of, score) / np.bincount(of)
    given = np.bincount(of[labelled], minlength=phrases)
    label_rate = np.bincount(of[labelled], supervision.labels[labelled], phrases) / np.maximum(given, 1)
    order = [row for row in np.argsort(-mean, kind="stable") if given[row]]
    first = np.empty(phrases, dtype=np.int64)
    first[of[::-1]] = evidence.item_rows[::-1]
    titles = catalogue["title" if "title" in catalogue.columns else "item_id"]
    lift = evidence.observed / np.where(evidence.expected > 0, evidence.expected, np.nan)

    def show(rows: list[int]) -> list[dict[str, Any]]:
        return [
            {
                "text": str(evidence.phrases[row]),
                "item": titles[int(first[row])],
                "items": int(evidence.items[row]),
                "score": round(float(mean[row]), 4),
                "lift": None if np.isnan(lift[row]) else round(float(lift[row]), 2),
                "given_label": round(float(label_rate[row]), 2),
            }
            for row in rows
        ]

    kept = [row for row in order if mean[row] >= threshold][:EXAMPLES]
    rejected = [row for row in reversed(order) if mean[row] < threshold][:EXAMPLES]
    return {"kept": show(kept), "rejected": show(rejected)}
