"""One-hop memorization: what a recommender could know by heart of the training part (IIRG, arXiv 2606.17276)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from dig.engine.lazy import scipy

if TYPE_CHECKING:
    from datamodules.histories import Histories

__all__ = ["CANDIDATES", "MemorizationRatio", "beneficiaries", "one_hop_candidates", "successor_counts"]

CANDIDATES = 50
"""Items of a user's one-hop candidate set, at most."""
_CHUNK = 4096


def successor_counts(train: Histories, num_items: int) -> scipy.sparse.csr_matrix:
    """How often each item was followed by each other, directly, in the training part.

    Args:
        train: (users,) catalogue rows, held-out items left out.
        num_items: size of the catalogue.

    Returns:
        (items, items) int64 counts.
    """
    flat, owners = train.flat().astype(np.int64), train.owners()
    following = owners[1:] == owners[:-1]
    first, second = flat[:-1][following], flat[1:][following]
    ones = np.ones(len(first), dtype=np.int64)
    return scipy.sparse.csr_matrix((ones, (first, second)), shape=(num_items, num_items))


def one_hop_candidates(
    successors: scipy.sparse.csr_matrix, histories: Sequence[np.ndarray], size: int = CANDIDATES
) -> np.ndarray:
    """The direct successors of every item of each history, the most frequent first.

    Frequencies add up over the different items of a history; of equal ones the item that more was followed by comes
    first, then the catalogue's order.

    Args:
        successors: :func:`successor_counts`.
        histories: (examples,) catalogue rows.
        size: candidates per example.

    Returns:
        (examples, size) int64 rows, -1 where there are fewer.
    """
    items = successors.shape[0]
    frequency = np.asarray(successors.sum(axis=0)).ravel()
    candidates = np.full((len(histories), size), -1, dtype=np.int64)
    for start in range(0, len(histories), _CHUNK):
        part = [np.unique(history) for history in histories[start : start + _CHUNK]]
        lengths = np.array([len(history) for history in part])
        rows = np.concatenate([history.astype(np.int64) for history in part])
        asked = scipy.sparse.csr_matrix(
            (np.ones(len(rows), np.int64), rows, np.append(0, np.cumsum(lengths))), shape=(len(part), items)
        )
        counts = (asked @ successors).tocoo()
        order = np.lexsort((counts.col, -frequency[counts.col], -counts.data, counts.row))
        row, item = counts.row[order], counts.col[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        mask = place < size
        candidates[start + row[mask], place[mask]] = item[mask]
    return candidates


def beneficiaries(candidates: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(examples,) whether the target is among the candidates (examples, size), so that memory alone could find it."""
    return (candidates == np.asarray(targets)[:, None]).any(axis=1)


class MemorizationRatio(Metric):
    """Share of the first k places that the one-hop candidates hold.

    Args:
        k: cut-off, 5 in the paper.
    """

    full_state_update = False
    inside: Tensor
    places: Tensor

    def __init__(self, k: int = 5, **settings: Any) -> None:
        super().__init__(**settings)
        self.k = k
        self.add_state("inside", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("places", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, ranked: Tensor, candidates: Tensor) -> None:
        """Counts rankings (batch, at least k) and candidates (batch, any), -1 where there is no item; no candidate
        twice."""
        ranked = ranked[:, : self.k]
        named = ranked.masked_fill(ranked < 0, -2).unsqueeze(2)  # equal to no candidate, the missing ones included
        self.inside += torch.count_nonzero(named == candidates.unsqueeze(1))
        self.places += len(ranked) * self.k

    def compute(self) -> Tensor:
        """Between 0 and 1, a 0-d float tensor; 0 before any."""
        return (self.inside.double() / self.places.clamp(min=1)).float()
