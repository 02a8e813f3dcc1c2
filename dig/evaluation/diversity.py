"""How different the items of one ranking are from each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dig.evaluation.catalogue_facts import CatalogueFacts

__all__ = ["IntraListDiversity"]

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
        known = torch.bincount(users[sizes > 0], minlength=len(ranked))
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
        several = known > 1
        pairs = (known * (known - 1))[several].double()
        self.total += (1.0 - (squares[several] - known[several]) / pairs).sum()
        self.count += several.sum()

    def compute(self) -> Tensor:
        """The mean, a 0-d float tensor; NaN where no ranking could be measured."""
        return (self.total / self.count).float()
