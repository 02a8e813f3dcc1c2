"""Items that belong together: by behaviour in the training part, and by meaning (IIRG, arXiv 2606.17276)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse  # type: ignore[import-untyped]
from torch import Tensor

from datamodules.histories import Histories
from dig.console import track

__all__ = ["KEPT", "REACH", "collaborative_neighbours", "semantic_neighbours"]

REACH = 5
"""Two items co-occur when they stand within this many positions of a history."""
KEPT = 10
"""Neighbours that are kept of an item."""
_CHUNK = 4_000_000  # pairs counted at once
_ROWS = 1_024  # items compared at once


def collaborative_neighbours(
    train: Histories, items: int, semantic: np.ndarray | None = None, reach: int = REACH, keep: int = KEPT
) -> np.ndarray:
    """The items that most often stand near an item, ranked by (count, the neighbour's frequency, its row).

    Args:
        train: histories of the training part; held-out items are in none of them.
        items: size of the catalogue.
        semantic: (items, any) neighbours by meaning, nearest first, -1 where there is none; an item with too few
            neighbours of its own gets those of its most similar items.
        reach: the largest distance in positions.
        keep: neighbours an item.

    Returns:
        (items, keep) int64 rows, best first, -1 where there is none.
    """
    counts = _counts(train, items, reach)
    frequency = np.bincount(train.flat(), minlength=items)
    rows = np.repeat(np.arange(items), np.diff(counts.indptr))
    columns = counts.indices.astype(np.int64)
    order = np.lexsort((columns, -frequency[columns], -counts.data, rows))
    turn = np.arange(len(rows)) - counts.indptr[rows]  # rows stay sorted, so this is the rank in the row
    near = turn < keep
    found = np.full((items, keep), -1, dtype=np.int64)
    found[rows[near], turn[near]] = columns[order][near]
    return found if semantic is None else _filled(found, semantic)


def semantic_neighbours(vectors: Tensor, keep: int = KEPT) -> np.ndarray:
    """The most similar items by the cosine of their vectors (items, dim).

    Exact, in blocks of rows, so that a million items need no matrix of a million squared.

    Returns:
        (items, keep) int64 rows, nearest first, -1 in a catalogue of fewer.
    """
    unit = F.normalize(vectors.float(), dim=1)
    wanted = min(keep, len(unit) - 1)
    found = np.full((len(unit), keep), -1, dtype=np.int64)
    starts = range(0, len(unit), _ROWS)
    for start in track(starts, "similar items") if len(starts) > 50 else starts:
        similarity = unit[start : start + _ROWS] @ unit.T
        block = torch.arange(len(similarity))
        similarity[block, block + start] = float("-inf")
        found[start : start + _ROWS, :wanted] = similarity.topk(wanted, dim=1).indices.numpy()
    return found


def _counts(train: Histories, items: int, reach: int) -> sparse.csr_matrix:
    """(items, items) how often two different items stand within ``reach`` positions, both ways."""
    flat, owners = train.flat().astype(np.int64), train.owners()
    total = sparse.csr_matrix((items, items), dtype=np.int64)
    for distance in range(1, reach + 1):
        for start in range(0, max(len(flat) - distance, 0), _CHUNK):
            stop = min(start + _CHUNK, len(flat) - distance)
            left, right = flat[start:stop], flat[start + distance : stop + distance]
            kept = (owners[start:stop] == owners[start + distance : stop + distance]) & (left != right)
            ones = np.ones(int(kept.sum()), dtype=np.int64)
            total = total + sparse.csr_matrix((ones, (left[kept], right[kept])), shape=(items, items))
    return (total + total.T).tocsr()


def _filled(found: np.ndarray, semantic: np.ndarray) -> np.ndarray:
    """Puts the neighbours of the most similar items behind those of items that have too few."""
    keep = found.shape[1]
    result = found.copy()
    short = np.flatnonzero(found[:, -1] < 0)
    for start in range(0, len(short), _ROWS):
        own = short[start : start + _ROWS]
        similar = semantic[own]
        lent = np.where(similar[:, :, None] >= 0, found[similar], -1).reshape(len(own), -1)
        lent = np.where(lent == own[:, None], -1, lent)
        result[own] = _first_distinct(np.concatenate([found[own], lent], axis=1), keep)
    return result


def _first_distinct(rows: np.ndarray, keep: int) -> np.ndarray:
    """The first ``keep`` different values of each row in their order, -1 is no value."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    first = ordered >= 0
    first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    fresh = np.zeros_like(first)
    np.put_along_axis(fresh, order, first, axis=1)
    place = fresh.cumsum(axis=1) - 1
    kept = fresh & (place < keep)
    result = np.full((len(rows), keep), -1, dtype=np.int64)
    result[np.nonzero(kept)[0], place[kept]] = rows[kept]
    return result
