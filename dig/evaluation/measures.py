"""Metrics beyond accuracy: diversity, exposure, novelty, validity; all metrics of a test in one collection."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from dig.evaluation.memorization import MemorizationRatio
from dig.evaluation.ranking import MRR, NDCG, HitRate

if TYPE_CHECKING:
    from datamodules.histories import Histories

__all__ = [
    "CatalogueFacts",
    "IntraListDiversity",
    "Coverage",
    "Gini",
    "Novelty",
    "PopularityLift",
    "DuplicateShare",
    "InvalidShare",
    "MEMORIZED",
    "accuracy_measures",
    "all_measures",
    "beyond_accuracy",
]


@dataclass(frozen=True)
class CatalogueFacts:
    """Facts of the training part.

    Attributes:
        counts: (items,) int64 occurrences.
        buyers: (items,) int64 different users who have it.
        users: users with a history.
        categories: numbers of the categories of all items, one after the other, int64; None where none is known.
        offsets: (items + 1,) item i has ``categories[offsets[i]:offsets[i + 1]]``; None as above.
    """

    counts: Tensor
    buyers: Tensor
    users: int
    categories: Tensor | None = None
    offsets: Tensor | None = None

    @classmethod
    def of(
        cls,
        counts: np.ndarray,
        users: int,
        categories: Sequence[Sequence[str] | None] | None = None,
        buyers: np.ndarray | None = None,
    ) -> CatalogueFacts:
        """Numbers the categories.

        Args:
            counts: (items,) occurrences.
            buyers: (items,) different users who have each; None where nobody has an item twice.
            users: users with a history.
            categories: (items,) names of each item's categories, None or empty where it has none. One that all items
                with a category are of tells nothing and is left out.
        """
        given = [set(names or ()) for names in categories or ()]
        of_all = set.intersection(*(names for names in given if names)) if any(given) else set()
        named = [sorted(names - of_all) for names in given]
        occurrences, people = (
            torch.from_numpy(each.astype(np.int64)) for each in (counts, counts if buyers is None else buyers)
        )
        if not any(named):
            return cls(occurrences, people, users)
        numbers = {name: number for number, name in enumerate(sorted({name for names in named for name in names}))}
        flat = torch.tensor([numbers[name] for names in named for name in names])
        offsets = torch.tensor([0, *np.cumsum([len(names) for names in named])])
        return cls(occurrences, people, users, flat, offsets)


_TABLE = 2**22  # cells of users by categories at a time


class IntraListDiversity(Metric):
    """Mean over users of 1 - the mean cosine of pairs of items of the first k (Ziegler et al., WWW 2005), items as sets
    of categories: 0 where all are of the same, 1 where no two share one.

    Items without a category are left out, and so is a ranking with fewer than two others.

    Args:
        k: cut-off.
        facts: of the catalogue, with categories.

    Raises:
        ValueError: no item has a category.
    """

    full_state_update = False
    higher_is_better = True
    categories: Tensor
    offsets: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, k: int, facts: CatalogueFacts, **settings: Any) -> None:
        super().__init__(**settings)
        if facts.categories is None or facts.offsets is None:
            raise ValueError("diversity needs the categories of items")
        self.k = k
        self.register_buffer("categories", facts.categories, persistent=False)
        self.register_buffer("offsets", facts.offsets, persistent=False)
        self.num_categories = int(facts.categories.max()) + 1
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, ranked: Tensor) -> None:
        """Adds a batch of rankings (batch, at least k), -1 where there is no item."""
        for rows in ranked[:, : self.k].split(max(_TABLE // self.num_categories, 1)):
            self._add(rows)

    def _add(self, ranked: Tensor) -> None:
        users, places = (ranked >= 0).nonzero(as_tuple=True)
        items = ranked[users, places]
        begins = self.offsets.index_select(0, items)  # of long rows of numbers, several times as fast as [items]
        sizes = self.offsets.index_select(0, items + 1) - begins
        with_category = torch.bincount(users[sizes > 0], minlength=len(ranked))
        entries = int(sizes.sum())
        entry = torch.repeat_interleave(sizes, output_size=entries)
        shift = begins - (sizes.cumsum(dim=0) - sizes)
        rows = shift.index_select(0, entry).add_(torch.arange(entries, device=entry.device))
        # of unit vectors, the pairs' cosines are what the square of the sum holds beyond the squares
        weights = sizes.clamp(min=1).float().rsqrt().index_select(0, entry)
        cells = (users * self.num_categories).index_select(0, entry).add_(self.categories.index_select(0, rows))
        sums = torch.zeros(len(ranked) * self.num_categories, device=ranked.device).scatter_add_(0, cells, weights)
        table = sums.view(len(ranked), -1)
        squares = torch.linalg.vecdot(table, table).double()
        several = with_category > 1
        pairs = (with_category * (with_category - 1))[several].double()
        self.total += (1.0 - (squares[several] - with_category[several]) / pairs).sum()
        self.count += several.sum()

    def compute(self) -> Tensor:
        """The mean, a 0-d float tensor; NaN where no ranking could be measured."""
        return (self.total / self.count).float()


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
    return torch.bincount(rows.flatten() + 1, minlength=items + 1)[1:]  # what is not an item is counted in front


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
        """Places that are not rows of the catalogue."""
        missing = len(ranked) * (self.k - ranked.shape[1])
        return ((ranked < 0) | (ranked >= self.items)).sum() + missing


class DuplicateShare(_PlaceMetric):
    """Places that repeat an item of the same ranking."""

    def counted(self, ranked: Tensor) -> Tensor:
        """Places whose item stands further up."""
        ordered = ranked.sort(dim=1).values
        return ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).sum()


_TOGETHER = 4096  # examples at a time

MEMORIZED = 5
"""Cut-off of the memorization ratio, as in its paper."""


def accuracy_measures(ks: Sequence[int], **settings: Any) -> MetricCollection:
    """HR, NDCG and MRR at each cut-off, named ``hr@5`` and so on; ``settings`` are torchmetrics' own."""
    named: dict[str, Metric | MetricCollection] = {}
    for name, kind in (("hr", HitRate), ("ndcg", NDCG), ("mrr", MRR)):
        named |= {f"{name}@{k}": kind(k, **settings) for k in ks}
    # of a cut-off all three count the same
    return MetricCollection(named, compute_groups=[[f"{name}@{k}" for name in ("hr", "ndcg", "mrr")] for k in ks])


def all_measures(ks: Sequence[int], facts: CatalogueFacts, **settings: Any) -> MetricCollection:
    """Accuracy at each cut-off, and what else is known of the first K of the largest.

    ``update`` takes ``ranked``, ``targets``, ``bought`` and ``candidates`` by name.

    Args:
        ks: cut-offs of the accuracy.
        facts: of the catalogue; without categories there is no diversity.
        settings: torchmetrics' own.
    """
    named, groups = _beyond_measures(ks, facts, **settings)
    accuracy: dict[str, Metric | MetricCollection] = dict(accuracy_measures(ks, **settings).items(keep_base=True))
    accuracy_groups = [[f"{name}@{each}" for name in ("hr", "ndcg", "mrr")] for each in ks]
    return MetricCollection(accuracy | named, compute_groups=[*accuracy_groups, *groups])


def _beyond_measures(
    ks: Sequence[int], facts: CatalogueFacts, **settings: Any
) -> tuple[dict[str, Metric | MetricCollection], list[list[str]]]:
    """What is known of the first K of the largest cut-off besides accuracy, and which of it counts the same."""
    k, items = max(ks), len(facts.counts)
    named: dict[str, Metric | MetricCollection] = {
        f"coverage@{k}": Coverage(k, facts, **settings),
        f"gini@{k}": Gini(k, facts, **settings),
        f"novelty@{k}": Novelty(k, facts, **settings),
        f"popularity_lift@{k}": PopularityLift(k, facts, **settings),
        f"invalid@{k}": InvalidShare(k, items, **settings),
        f"duplicates@{k}": DuplicateShare(k, items, **settings),
        f"memorization@{MEMORIZED}": MemorizationRatio(MEMORIZED, **settings),
    }
    groups = [[f"coverage@{k}", f"gini@{k}", f"novelty@{k}"]]
    groups += [
        [name] for name in (f"popularity_lift@{k}", f"invalid@{k}", f"duplicates@{k}", f"memorization@{MEMORIZED}")
    ]
    if facts.categories is not None:
        named[f"diversity@{k}"] = IntraListDiversity(k, facts, **settings)
        groups.append([f"diversity@{k}"])
    return named, groups


def beyond_accuracy(
    ranked: Tensor, histories: Histories, candidates: np.ndarray, ks: Sequence[int], facts: CatalogueFacts
) -> dict[str, float]:
    """What is measured of some examples besides accuracy; what cannot be measured of so few is not there.

    One process measures what it is given, whether or not there are others.

    Args:
        ranked: (examples, depth) item rows, -1 where a ranking ends early.
        histories: (examples,) catalogue rows.
        candidates: (examples, any) one-hop candidates, -1 where there are fewer.
        ks: cut-offs; the largest counts.
        facts: of the catalogue.
    """
    named, groups = _beyond_measures(ks, facts, sync_on_compute=False)  # of what this process has at hand
    measures = MetricCollection(named, compute_groups=groups)
    for start in range(0, len(ranked), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        measures.update(
            ranked=ranked[part],
            bought=torch.from_numpy(histories.take(part).flat().astype(np.int64)),
            candidates=torch.from_numpy(candidates[part].astype(np.int64)),
        )
    values = {name: float(value) for name, value in measures.compute().items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}
