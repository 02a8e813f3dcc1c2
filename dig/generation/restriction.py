"""Which items a request may have: some only, or all but some, a row of the batch each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Restriction"]


@dataclass(frozen=True)
class Restriction:
    """Items by their places in the trie's sorted order, so that a node's items are counted by two binary searches.

    Attributes:
        places: (batch, n) int32, sorted in each row, with ``items`` at the end of a shorter row.
        items: number of items in the trie.
        banned: whether these items are left out; else they alone are allowed.
        among: (m,) int32, sorted places that every row of the batch may have at most, what is in stock, say; None for
            all. The banned places of a row are some of these.
    """

    places: Tensor
    items: int
    banned: bool
    among: Tensor | None = None

    def admits(self, begins: Tensor, ends: Tensor) -> Tensor:
        """Whether any item from place ``begins`` to before ``ends`` (batch, …) is allowed, (batch, …) bool."""
        batch = len(self.places)
        low, high = (torch.searchsorted(self.places, bound.reshape(batch, -1).contiguous()) for bound in (begins, ends))
        named = (high - low).view_as(begins)
        if not self.banned:
            return named > 0
        if self.among is None:
            return named < ends - begins
        below, above = (torch.searchsorted(self.among, bound.contiguous()) for bound in (begins, ends))
        return named < above - below
