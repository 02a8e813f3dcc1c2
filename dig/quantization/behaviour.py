"""Collaborative vectors of items: what is bought with what, as coordinates."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dig.engine.lazy import scipy

__all__ = ["behaviour_vectors"]


def behaviour_vectors(left: np.ndarray, right: np.ndarray, counts: np.ndarray, items: int, dim: int) -> Tensor:
    """Truncated factors of the positive pointwise mutual information of co-purchases (Levy & Goldberg 2014).

    Stands in for the vectors of a trained recommender in LETTER's alignment; needs no training and no seed.

    Args:
        left: ``(pairs,)`` item rows, training part only.
        right: ``(pairs,)`` item rows.
        counts: ``(pairs,)`` how often each pair was bought together.
        items: size of the catalogue.
        dim: width of the vectors; fewer where the catalogue is smaller.

    Returns:
        ``(items, dim)`` float32 of length 1; zero for an item without a pair.
    """
    dim = min(dim, items - 1)
    weights = np.concatenate([counts, counts]).astype(np.float64)
    rows, columns = np.concatenate([left, right]), np.concatenate([right, left])
    degrees = np.bincount(rows, weights, items)
    ratio = weights * weights.sum() / (degrees[rows] * degrees[columns])
    positive = np.maximum(np.log(ratio), 0.0)
    matrix = scipy.sparse.csr_matrix((positive, (rows, columns)), shape=(items, items))
    if dim < 1 or matrix.nnz == 0:
        return torch.zeros(items, max(dim, 1))
    start = np.random.default_rng(0).normal(size=items)  # ARPACK's own start would differ from run to run
    factors, values, _ = scipy.sparse.linalg.svds(matrix, k=dim, v0=start)
    order = np.argsort(-values)
    vectors = factors[:, order] * np.sqrt(values[order])
    vectors *= np.where(np.abs(vectors).max(axis=0) == vectors.max(axis=0), 1.0, -1.0)  # signs are free; fix them
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return torch.from_numpy(np.where(lengths > 1e-9, vectors / np.maximum(lengths, 1e-9), 0.0).astype(np.float32))
