"""What vectors say of an interest: how near it is to its item, how particular to it, and what it is about."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from dig.engine.lazy import scipy, sklearn
from dig.interests.supervision import PhraseEvidence

__all__ = ["COMPONENTS", "VECTOR_FEATURES", "InterestVectors", "agreement", "cohesion", "vector_features"]

COMPONENTS = 8
"""Principal components of the vectors of phrases, and of items, that are features."""
_SAMPLE = 512
"""Other items whose cosines with a phrase are looked at."""
_PRIOR = 3.0
"""Pairs of items at which half of what a phrase's items have in common is believed."""
_CHUNK = 16_384

VECTOR_FEATURES = {
    "item_cosine": "nearness to the item's text",
    "item_cosine_rank": "nearer to this item than to others",
    "usual_cosine": "nearness to items in general",
    "cohesion": "likeness of the items that hold the phrase",
    "category_agreement": "one category of the items that hold the phrase",
    "brand_agreement": "one brand of the items that hold the phrase",
    **{f"phrase_{number}": f"meaning of the phrase, component {number}" for number in range(1, COMPONENTS + 1)},
    **{f"item_{number}": f"meaning of the item, component {number}" for number in range(1, COMPONENTS + 1)},
}
"""Columns of :func:`vector_features` with their meaning; they know texts, categories and brands, never behaviour."""


class InterestVectors(NamedTuple):
    """Vectors of one text encoder."""

    phrases: list[str]
    """Folded and distinct, all that interests hold."""
    of_phrases: np.ndarray
    """(phrases, dim)"""
    of_items: np.ndarray
    """(items, dim) of the catalogue's items, from their own fields, without interests."""


def vector_features(
    evidence: PhraseEvidence, catalogue: pl.DataFrame, vectors: InterestVectors, seed: int
) -> np.ndarray:
    """The features of every interest that need vectors.

    Args:
        evidence: the phrases and who holds them.
        catalogue: the items, with ``categories`` and ``brand`` where known.
        vectors: every phrase of ``evidence`` among them.
        seed: of the sample of other items.

    Returns:
        float64 ``(interests, features)``, columns as :data:`VECTOR_FEATURES`.

    Raises:
        ValueError: if a phrase has no vector.
    """
    places = {phrase: row for row, phrase in enumerate(vectors.phrases)}
    if missing := [phrase for phrase in evidence.phrases if phrase not in places]:
        raise ValueError(f"{len(missing)} phrases have no vector, for one {missing[0]!r}")
    phrases = unit(vectors.of_phrases[[places[phrase] for phrase in evidence.phrases]])
    items = unit(vectors.of_items)
    brands = catalogue["brand"].to_list() if "brand" in catalogue.columns else []
    paths = catalogue["categories"].to_list() if "categories" in catalogue.columns else []
    of_phrase = np.column_stack(
        [
            cohesion(evidence.membership, items),
            agreement(evidence.membership, [path[-1] if path else None for path in paths]),
            agreement(evidence.membership, brands),
            _components(phrases),
        ]
    )
    shared = of_phrase[evidence.of_interest]
    return np.column_stack([_nearness(evidence, phrases, items, seed), shared, _components(items)[evidence.item_rows]])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors ``(n, dim)`` of length 1, float32; one of length 0 stays."""
    vectors = vectors.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


def _nearness(evidence: PhraseEvidence, phrases: np.ndarray, items: np.ndarray, seed: int) -> np.ndarray:
    """``(interests, 3)``: cosine with the item, share of sampled items that are farther, mean cosine with those."""
    sample = np.random.default_rng(seed).permutation(len(items))[:_SAMPLE]
    result = np.empty((len(evidence.of_interest), 3))
    order = np.argsort(evidence.of_interest, kind="stable")
    for start in range(0, len(order), _CHUNK):
        rows = order[start : start + _CHUNK]
        own, of = np.unique(evidence.of_interest[rows], return_inverse=True)
        others = phrases[own] @ items[sample].T
        cosine = np.einsum("nd,nd->n", phrases[evidence.of_interest[rows]], items[evidence.item_rows[rows]])
        result[rows] = np.column_stack([cosine, (others[of] < cosine[:, None]).mean(axis=1), others.mean(axis=1)[of]])
    return result


def _components(vectors: np.ndarray) -> np.ndarray:
    """``(n, COMPONENTS)`` principal components; what the vectors are too few or too narrow for is 0."""
    result = np.zeros((len(vectors), COMPONENTS))
    count = min(COMPONENTS, *vectors.shape)
    if count and np.ptp(vectors, axis=0).any():
        result[:, :count] = sklearn.decomposition.PCA(count, svd_solver="covariance_eigh").fit_transform(vectors)
    return result


def cohesion(membership: scipy.sparse.csr_matrix, items: np.ndarray) -> np.ndarray:
    """Mean cosine of the pairs of items that hold a phrase, ``(phrases,)``, drawn to the usual one where pairs are few.

    ``Σ_{a<b} cos = (‖Σ x‖² − Σ ‖x‖²)/2``, so that no pair is ever looked at.

    Args:
        membership: 0/1 ``(phrases, items)``.
        items: ``(items, dim)`` unit vectors.
    """
    sums = membership @ items.astype(np.float64)
    own = membership @ (items.astype(np.float64) ** 2).sum(axis=1)
    return _drawn(((sums**2).sum(axis=1) - own) / 2, _pairs(np.asarray(membership.sum(axis=1)).ravel()))


def agreement(membership: scipy.sparse.csr_matrix, names: list[str | None]) -> np.ndarray:
    """Share of the pairs of items that hold a phrase and have the same name, ``(phrases,)``, drawn likewise.

    Args:
        membership: 0/1 ``(phrases, items)``.
        names: of the items, a brand or a category; items without one make no pair, no names at all give 0.
    """
    known = [row for row, name in enumerate(names) if name]
    if not known:
        return np.zeros(membership.shape[0])
    distinct, codes = np.unique([names[row] for row in known], return_inverse=True)
    shape = (membership.shape[1], len(distinct))
    counts = membership @ scipy.sparse.csr_matrix((np.ones(len(known)), (known, codes)), shape=shape)
    together = counts.copy()
    together.data = _pairs(together.data)
    return _drawn(np.asarray(together.sum(axis=1)).ravel(), _pairs(np.asarray(counts.sum(axis=1)).ravel()))


def _pairs(count: np.ndarray) -> np.ndarray:
    return count * (count - 1) / 2


def _drawn(total: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Means over pairs, drawn to the mean of phrases that have as many pairs as the prior counts for."""
    settled = pairs >= _PRIOR
    usual = float((total[settled] / pairs[settled]).mean()) if settled.any() else 0.0
    return (total + _PRIOR * usual) / (pairs + _PRIOR)
