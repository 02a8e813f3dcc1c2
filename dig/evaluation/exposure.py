"""What a recommender does to a catalogue: how much of it is shown, how evenly, and how well known it is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dig.evaluation.catalogue_facts import CatalogueFacts

__all__ = ["Coverage", "Gini", "Novelty", "PopularityLift"]


class _ExposureMetric(Metric):
    """A function of how often each item stands among the first k.

    Args:
        k: cut-off.
        facts: of the catalogue.
    """

    full_state_update = False
    counts: Tensor
    exposure: Tensor

    def __init__(self, k: int, facts: CatalogueFacts, **settings: Any) -> None:
        super().__init__(**settings)
        self.k = k
        self.users = facts.users
        self.register_buffer("counts", facts.counts, persistent=False)
        self.add_state("exposure", torch.zeros(len(facts.counts), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, ranked: Tensor) -> None:
        """Counts a batch of rankings (batch, at least k), -1 where there is no item."""
        self.exposure += _counted(ranked[:, : self.k], len(self.exposure))

    @abstractmethod
    def compute(self) -> Tensor:
        """The figure, a 0-d float tensor."""


class Coverage(_ExposureMetric):
    """Share of the catalogue that at least one user is shown."""

    def compute(self) -> Tensor:
        """Between 0 and 1."""
        return (self.exposure > 0).double().mean().float()


class Gini(_ExposureMetric):
    """Gini index of how often items are shown: 0 where all are shown alike, nearly 1 where everybody sees the same."""

    def compute(self) -> Tensor:
        """``Σ (2i - n - 1) x_i / (n Σ x)`` over exposures x in rising order; 0 before any."""
        ordered = self.exposure.sort().values.double()
        n = len(ordered)
        places = 2.0 * torch.arange(1, n + 1, dtype=torch.float64, device=ordered.device) - n - 1
        return ((places * ordered).sum() / (n * ordered.sum()).clamp(min=1)).float()


class Novelty(_ExposureMetric):
    """Mean self-information of what is shown, in bits (Zhou et al., PNAS 2010): -log2 of the share of users who bought
    it, with nobody counted as one."""

    buyers: Tensor

    def __init__(self, k: int, facts: CatalogueFacts, **settings: Any) -> None:
        super().__init__(k, facts, **settings)
        self.register_buffer("buyers", facts.buyers, persistent=False)

    def compute(self) -> Tensor:
        """0 for what all have; NaN before any."""
        bits = -(self.buyers.clamp(min=1).double() / max(self.users, 1)).log2()
        return ((bits * self.exposure).sum() / self.exposure.sum()).float()


class PopularityLift(_ExposureMetric):
    """How much better known what is shown is than what the same users bought (Abdollahpouri et al., 2020, over all
    users): 0 as popular, 1 twice as popular."""

    purchases: Tensor

    def __init__(self, k: int, facts: CatalogueFacts, **settings: Any) -> None:
        super().__init__(k, facts, **settings)
        self.add_state("purchases", torch.zeros(len(facts.counts), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, ranked: Tensor, bought: Tensor) -> None:  # type: ignore[override]
        """Counts rankings (batch, at least k) and the rows of all histories in any shape, -1 where there is no item."""
        super().update(ranked)
        self.purchases += _counted(bought, len(self.purchases))

    def compute(self) -> Tensor:
        """Mean training count of what is shown over that of what was bought, minus 1; NaN where nothing was."""
        return (self._popularity(self.exposure) / self._popularity(self.purchases) - 1).float()

    def _popularity(self, occurrences: Tensor) -> Tensor:
        return (self.counts * occurrences).sum().double() / occurrences.sum()


def _counted(rows: Tensor, items: int) -> Tensor:
    return torch.bincount(rows.flatten() + 1, minlength=items + 1)[1:]  # what is no item is counted in front
