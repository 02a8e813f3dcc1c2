"""HR@K, NDCG@K and MRR@K at the item level, as torchmetrics that add up exactly over batches and ranks."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

__all__ = ["MRR", "NDCG", "HitRate", "ranking_metrics", "target_positions"]


class _RankingMetric(Metric):
    """Mean of a gain that depends on the target's position in the first k.

    The state is whole numbers, hits by position, so that neither batches nor ranks nor their order change a digit.
    """

    full_state_update = False
    higher_is_better = True
    hits: Tensor
    count: Tensor

    def __init__(self, k: int, **settings: Any) -> None:
        super().__init__(**settings)
        if k < 1:
            raise ValueError(f"k must be at least 1, it is {k}")
        if k != int(k):
            raise ValueError(f"k must be a whole number, it is {k}")
        self.k = k
        self.add_state("hits", torch.zeros(k, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, ranked: Tensor, targets: Tensor) -> None:
        """Counts a batch.

        Args:
            ranked: (batch, at least k) item rows, best first, -1 where a ranking ends early. Of an item that is named
                twice the first place counts.
            targets: (batch,) item rows.

        Raises:
            ValueError: if a ranking is shorter than k.
        """
        if ranked.shape[1] < self.k:
            raise ValueError(f"rankings of {ranked.shape[1]} items cannot give a metric at {self.k}")
        positions = target_positions(ranked[:, : self.k], targets)
        self.hits += torch.bincount(positions[positions >= 0], minlength=self.k)
        self.count += len(targets)

    def compute(self) -> Tensor:
        """The mean over all targets, a 0-d float tensor; 0 before any."""
        total = (self.hits * self.gains(self.hits.device)).sum()
        return (total / self.count.clamp(min=1)).float()

    @abstractmethod
    def gains(self, device: torch.device) -> Tensor:
        """(k,) what a hit at each position is worth."""


class HitRate(_RankingMetric):
    """HR@K: share of targets among the first k, which for one target is Recall@K."""

    def gains(self, device: torch.device) -> Tensor:
        """1 at every position."""
        return torch.ones(self.k, dtype=torch.float64, device=device)


class NDCG(_RankingMetric):
    """NDCG@K with one relevant item: 1 / log2(position + 1), positions from 1."""

    def gains(self, device: torch.device) -> Tensor:
        """Discount at every position."""
        return 1.0 / torch.log2(torch.arange(2, self.k + 2, dtype=torch.float64, device=device))


class MRR(_RankingMetric):
    """MRR@K: 1 / position of the target, positions from 1; 0 beyond k."""

    def gains(self, device: torch.device) -> Tensor:
        """Reciprocal of every position."""
        return 1.0 / torch.arange(1, self.k + 1, dtype=torch.float64, device=device)


def target_positions(ranked: Tensor, targets: Tensor) -> Tensor:
    """(batch,) place of each target in its ranking (batch, k), from 0 on; -1 where it is not ranked."""
    hits = ranked == targets.unsqueeze(1)
    return torch.where(hits.any(dim=1), hits.int().argmax(dim=1), -1)


def ranking_metrics(ks: list[int], prefix: str = "", **settings: Any) -> MetricCollection:
    """HR and NDCG at each cut-off, named ``hr@5`` and so on; ``settings`` are torchmetrics' own."""
    named: dict[str, Metric | MetricCollection] = {f"hr@{k}": HitRate(k, **settings) for k in ks}
    named |= {f"ndcg@{k}": NDCG(k, **settings) for k in ks}
    return MetricCollection(named, prefix=prefix, compute_groups=False)
