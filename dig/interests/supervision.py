"""What the RLDI classifier learns from: behaviour, a judge's verdicts, or labels made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from dig.engine.lazy import scipy
from dig.interests.interest import distinct_phrases, fold_column

__all__ = [
    "LIFT_CEILING",
    "LIFT_FLOOR",
    "NEGATIVE_LEVEL",
    "POSITIVE_LEVEL",
    "WINDOW",
    "CoPurchases",
    "count_copurchases",
    "expected_pairs",
    "lift_bar",
    "observed_pairs",
    "weak_labels",
    "MIN_PHRASES",
    "PhraseEvidence",
    "Supervision",
    "by_behaviour",
    "by_verdicts",
    "weigh_phrases",
]


WINDOW = 5
"""Two items are co-purchased when they stand within this many positions (IIRG, arXiv 2606.17276)."""
LIFT_FLOOR, LIFT_CEILING = 1.5, 3.0
"""Bounds of :func:`lift_bar`; our own choice (open in the paper)."""
POSITIVE_LEVEL = 0.001
"""Positive: this many pairs or more would come by chance with at most this probability."""
NEGATIVE_LEVEL = 0.05
"""Negative: so few pairs or fewer would come with at most this probability if the lift stood at the bar."""
_CHUNK = 65_536


class CoPurchases(NamedTuple):
    """Pairs of items bought near each other; ``left[n] < right[n]`` are item rows."""

    left: np.ndarray  # (pairs,) int64
    right: np.ndarray  # (pairs,) int64
    users: np.ndarray  # (pairs,) int64: users who bought the pair
    items: int

    def degrees(self) -> np.ndarray:
        """(items,) float64: pairs that an item takes part in, weighted by users; its popularity among pairs."""
        return np.bincount(self.left, self.users, self.items) + np.bincount(self.right, self.users, self.items)


def count_copurchases(sequences: Sequence[np.ndarray], items: int, window: int = WINDOW) -> CoPurchases:
    """Counts, for every unordered pair of different items, the users who have both within ``window`` positions.

    A user counts once a pair, so that a customer who buys the same two things every month is one piece of evidence.

    Args:
        sequences: one int array of item rows per user, in order, training part only.
        items: number of items in the catalogue.
        window: the largest distance in positions.

    Raises:
        ValueError: if a row lies outside the catalogue.
    """
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    rows = (
        np.concatenate([np.asarray(s, dtype=np.int64) for s in sequences]) if lengths.sum() else np.zeros(0, np.int64)
    )
    if rows.size and not 0 <= rows.min() <= rows.max() < items:
        raise ValueError(f"sequences hold item rows from {rows.min()} to {rows.max()}, the catalogue has {items} items")
    users = np.repeat(np.arange(len(lengths)), lengths)
    pairs, owners = [], []
    for distance in range(1, window + 1):
        first, second = rows[:-distance], rows[distance:]
        mask = (users[:-distance] == users[distance:]) & (first != second)
        pairs.append(np.minimum(first, second)[mask] * items + np.maximum(first, second)[mask])
        owners.append(users[:-distance][mask])
    distinct, codes = np.unique(np.concatenate(pairs), return_inverse=True)
    once = np.unique(np.concatenate(owners) * max(len(distinct), 1) + codes) % max(len(distinct), 1)
    counts = np.bincount(once, minlength=len(distinct))
    return CoPurchases(distinct // max(items, 1), distinct % max(items, 1), counts, items)


def observed_pairs(membership: scipy.sparse.csr_matrix, copurchases: CoPurchases) -> np.ndarray:
    """Co-purchased pairs with both items inside a phrase: ``Σ_{a<b} m_a·m_b·C_ab``.

    Args:
        membership: 0/1 ``(phrases, items)``, which items hold a phrase.
        copurchases: the counted pairs C.

    Returns:
        float64 ``(phrases,)``.
    """
    phrases_of_item = membership.T.tocsr().astype(np.float64)
    total = np.zeros(membership.shape[0])
    for start in range(0, len(copurchases.left), _CHUNK):
        part = slice(start, start + _CHUNK)
        shared = phrases_of_item[copurchases.left[part]].multiply(phrases_of_item[copurchases.right[part]])
        total += shared.T @ copurchases.users[part]
    return total


def expected_pairs(membership: scipy.sparse.csr_matrix, degrees: np.ndarray) -> np.ndarray:
    """Pairs that popularity alone would put inside a phrase (configuration model: pairs in proportion to degrees).

    ``m·Σ_{a<b∈S} k_a·k_b / Σ_{a<b} k_a·k_b`` with m the number of pairs in all, so a phrase that all items hold
    expects what is observed.

    Args:
        membership: 0/1 ``(phrases, items)``.
        degrees: ``(items,)``, :meth:`CoPurchases.degrees`.

    Returns:
        float64 ``(phrases,)``.
    """
    products = (membership @ degrees) ** 2 - membership @ degrees**2
    everything = degrees.sum() ** 2 - (degrees**2).sum()
    return products * (degrees.sum() / 2 / everything) if everything > 0 else np.zeros(membership.shape[0])


def _refutable(expected: np.ndarray, bar: float) -> np.ndarray:
    """Where not a single observed pair would be evidence against a lift of ``bar``."""
    return scipy.special.pdtr(0, bar * expected) <= NEGATIVE_LEVEL


def lift_bar(observed: np.ndarray, expected: np.ndarray) -> float:
    """The lift (observed over expected pairs) from which a phrase counts as binding its items.

    Against a whole catalogue nearly every phrase is above chance, "black" and "kit" too, because it leans to some
    category. The bar is therefore the lower quartile of the catalogue's own well supported phrases, kept within
    :data:`LIFT_FLOOR` (plain chance and a margin) and :data:`LIFT_CEILING` (so that no shop calls thrice the chance a
    failure).
    """
    supported = _refutable(expected, LIFT_FLOOR)
    if not supported.any():
        return LIFT_FLOOR
    quartile = np.quantile(observed[supported] / expected[supported], 0.25)
    return float(np.clip(quartile, LIFT_FLOOR, LIFT_CEILING))


def weak_labels(observed: np.ndarray, expected: np.ndarray, bar: float = LIFT_FLOOR) -> np.ndarray:
    """1 where co-purchase is above chance, 0 where it clearly is not, -1 where behaviour says too little.

    Exact one-sided Poisson tests, so that a handful of pairs counts for what it is: 1 when the observed count is
    significantly above the expected one and the lift reaches the bar; 0 when a lift at the bar is significantly too
    high. A phrase that expects so few pairs that not even zero could refute the bar stays unlabelled whatever was
    observed; without this, rare phrases could only ever turn out good.

    Args:
        observed: ``(phrases,)`` pairs counted.
        expected: ``(phrases,)`` pairs by chance.
        bar: the least lift of a good phrase, :func:`lift_bar`.

    Returns:
        int8 ``(phrases,)``.
    """
    refutable = _refutable(expected, bar)
    above = (
        (observed > 0) & (scipy.special.pdtrc(observed - 1, expected) <= POSITIVE_LEVEL) & (observed >= bar * expected)
    )
    below = scipy.special.pdtr(observed, bar * expected) <= NEGATIVE_LEVEL
    labels = np.full(len(observed), -1, dtype=np.int8)
    labels[refutable & below] = 0
    labels[refutable & above] = 1
    return labels


# What the RLDI classifier learns from: behaviour, a judge's verdicts, or labels made by hand.


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
        sequences: one int array of catalogue rows per user, in order, **without** both held-out items.
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
        ValueError: if there is not one verdict per interest, or one is none of 1, 0 and -1.
    """
    if verdicts.shape != evidence.of_interest.shape or not np.isin(verdicts, (-1, 0, 1)).all():
        raise ValueError(f"{len(evidence.of_interest)} interests need as many verdicts of 1, 0 or -1 (not judged)")
    return Supervision(verdicts.astype(np.int8), evidence.of_interest, (verdicts >= 0).astype(np.float64), source)
