"""Popularity: the same ranking for everybody, by how often items occur in the training part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from datamodules.histories import Histories

__all__ = ["Popularity"]


class Popularity:
    """Ranks items by their count in the training part, ties by catalogue order.

    Args:
        train: (users,) catalogue rows, held-out items left out.
        num_items: size of the catalogue.
    """

    def __init__(self, train: Histories, num_items: int) -> None:
        counts = np.bincount(train.flat(), minlength=num_items)
        self.counts = torch.from_numpy(counts)
        self.order = self.counts.argsort(descending=True, stable=True)

    def rank(self, histories: Sequence[np.ndarray], k: int) -> tuple[Tensor, Tensor]:
        """The k most popular items (batch, k) and their counts."""
        top = self.order[:k]
        ranked, scores = top.expand(len(histories), -1), self.counts[top].float().expand(len(histories), -1)
        missing = k - ranked.shape[1]
        if missing > 0:
            ranked = torch.nn.functional.pad(ranked, (0, missing), value=-1)
            scores = torch.nn.functional.pad(scores, (0, missing), value=float("-inf"))
        return ranked, scores
