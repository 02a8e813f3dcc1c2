"""What the RLDI classifier learns from: behaviour, a judge's verdicts, or labels made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from dig.engine.lazy import scipy
from dig.interests.copurchase import count_copurchases, expected_pairs, lift_bar, observed_pairs, weak_labels
from dig.interests.interest import distinct_phrases, fold_column

__all__ = ["MIN_PHRASES", "PhraseEvidence", "Supervision", "by_behaviour", "by_verdicts", "weigh_phrases"]

MIN_PHRASES = 10
"""The classifier needs this many labelled phrases of each class."""
_SUPPORT = 5.0
"""Pairs by chance at which half of a lift is believed."""
_WHO = {"behaviour": "behaviour", "judge": "the judge", "file": "the file"}


class PhraseEvidence(NamedTuple):
    """Who holds each distinct folded phrase, and what behaviour in the training part says of it."""

    phrases: np.ndarray  # (phrases,) str, sorted
    of_interest: np.ndarray  # (interests,) row of phrases
    item_rows: np.ndarray  # (interests,) row of the catalogue
    membership: scipy.sparse.csr_matrix  # (phrases, items) 0/1
    observed: np.ndarray  # (phrases,) co-purchased pairs of items that hold it
    expected: np.ndarray  # (phrases,) such pairs by chance

    @property
    def items(self) -> np.ndarray:
        """(phrases,) items that hold each phrase."""
        return np.asarray(self.membership.sum(axis=1)).ravel().astype(np.int64)

    @property
    def log_lift(self) -> np.ndarray:
        """(phrases,) log of observed over expected pairs, drawn towards 0 where few are expected."""
        return np.log((self.observed + _SUPPORT) / (self.expected + _SUPPORT))


class Supervision(NamedTuple):
    """Labels of some interests, with what cross-validation and weighting need."""

    labels: np.ndarray  # (interests,) int8: 1, 0, or -1 where nobody says
    groups: np.ndarray  # (interests,) int64: row of the folded phrase; training and test never share one
    weights: np.ndarray  # (interests,) float64, 0 where nobody says
    source: str
    """``behaviour``, ``judge`` or ``file``."""

    @property
    def binding(self) -> bool:
        """Whether a label is about the interest itself and stays; behaviour's is about its phrase and only teaches."""
        return self.source != "behaviour"

    def phrases(self, label: int) -> int:
        """Distinct phrases with this label."""
        return len(np.unique(self.groups[self.labels == label]))

    def obstacle(self, folds: int) -> str | None:
        """Why the labels cannot teach a classifier, or None."""
        positive, negative, needed = self.phrases(1), self.phrases(0), max(MIN_PHRASES, folds)
        if min(positive, negative) >= needed:
            return None
        return (
            f"not trained: {_WHO[self.source]} calls {positive} phrases good and {negative} not, at least {needed} of "
            f"each are needed; all {'others' if self.binding else 'interests'} count as positive"
        )


def weigh_phrases(interests: pl.DataFrame, item_ids: pl.Series, sequences: Sequence[np.ndarray]) -> PhraseEvidence:
    """Counts the co-purchases of every phrase's items.

    Args:
        interests: :data:`~dig.interests.interest.INTEREST_SCHEMA`, all about items of the catalogue.
        item_ids: ``(items,)`` the catalogue.
        sequences: one int array of catalogue rows a user, in order, **without** both held-out items.
    """
    folded = fold_column(interests["text"])
    phrases = pl.Series(distinct_phrases(interests), dtype=pl.String)
    of_interest = folded.replace_strict(phrases, np.arange(len(phrases)), return_dtype=pl.Int64).to_numpy()
    rows = interests["item_id"].replace_strict(item_ids, np.arange(len(item_ids)), return_dtype=pl.Int64).to_numpy()
    shape = (len(phrases), len(item_ids))
    membership = scipy.sparse.csr_matrix((np.ones(len(rows)), (of_interest, rows)), shape=shape)
    membership.data[:] = 1.0  # several miners may give one item the same phrase
    copurchases = count_copurchases(sequences, len(item_ids))
    observed = observed_pairs(membership, copurchases)
    expected = expected_pairs(membership, copurchases.degrees())
    return PhraseEvidence(phrases.to_numpy(), of_interest, rows, membership, observed, expected)


def by_behaviour(evidence: PhraseEvidence, min_items: int) -> tuple[Supervision, float]:
    """Weak labels of the phrases with enough support, carried to all their interests, and the bar of a good lift.

    Every labelled phrase weighs 1, however many items hold it.
    """
    eligible = evidence.items >= min_items
    bar = lift_bar(evidence.observed[eligible], evidence.expected[eligible])
    of_phrase = np.where(eligible, weak_labels(evidence.observed, evidence.expected, bar), -1).astype(np.int8)
    labels = of_phrase[evidence.of_interest]
    holders = np.bincount(evidence.of_interest, minlength=len(of_phrase))[evidence.of_interest]
    return Supervision(labels, evidence.of_interest, np.where(labels >= 0, 1.0 / holders, 0.0), "behaviour"), bar


def by_verdicts(evidence: PhraseEvidence, verdicts: np.ndarray, source: str) -> Supervision:
    """A judge's or a person's labels of single interests; each weighs 1.

    Raises:
        ValueError: if there is not one verdict an interest, or one is none of 1, 0 and -1.
    """
    if verdicts.shape != evidence.of_interest.shape or not np.isin(verdicts, (-1, 0, 1)).all():
        raise ValueError(f"{len(evidence.of_interest)} interests need as many verdicts of 1, 0 or -1 (not judged)")
    return Supervision(verdicts.astype(np.int8), evidence.of_interest, (verdicts >= 0).astype(np.float64), source)
