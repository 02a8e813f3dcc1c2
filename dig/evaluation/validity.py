"""Places of a ranking that are no recommendation: nothing of the catalogue, or an item again."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["DuplicateShare", "InvalidShare"]


class _PlaceMetric(Metric):
    """Share of the first k places of which something is true.

    Args:
        k: cut-off.
        items: size of the catalogue.
    """

    full_state_update = False
    higher_is_better = False
    found: Tensor
    places: Tensor

    def __init__(self, k: int, items: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.k, self.items = k, items
        self.add_state("found", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("places", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, ranked: Tensor) -> None:
        """Counts a batch of rankings (batch, at least k), -1 where there is no item."""
        self.found += self.counted(ranked[:, : self.k])
        self.places += len(ranked) * self.k

    def compute(self) -> Tensor:
        """Between 0 and 1, a 0-d float tensor; 0 before any."""
        return (self.found.double() / self.places.clamp(min=1)).float()

    @abstractmethod
    def counted(self, ranked: Tensor) -> Tensor:
        """How many places count."""


class InvalidShare(_PlaceMetric):
    """Places without an item of the catalogue: an unknown Semantic ID, or a ranking that ends before k."""

    def counted(self, ranked: Tensor) -> Tensor:
        """Places that are no row of the catalogue."""
        missing = len(ranked) * (self.k - ranked.shape[1])
        return ((ranked < 0) | (ranked >= self.items)).sum() + missing


class DuplicateShare(_PlaceMetric):
    """Places that repeat an item of the same ranking."""

    def counted(self, ranked: Tensor) -> Tensor:
        """Places whose item stands further up."""
        ordered = ranked.sort(dim=1).values
        return ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).sum()
