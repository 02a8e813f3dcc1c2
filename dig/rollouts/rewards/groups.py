"""Rollouts as reward terms see them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Groups"]


@dataclass(frozen=True)
class Groups:
    """A group of rollouts for each prompt, its target and its history.

    Attributes:
        items: (batch, group) catalogue rows, -1 for a sequence that is no item.
        targets: (batch,) catalogue rows.
        log_probs: (batch, group) of each rollout under the policy that made it.
        histories: (batch, remembered) catalogue rows, the oldest first, -1 before the first.
    """

    items: Tensor
    targets: Tensor
    log_probs: Tensor
    histories: Tensor

    @cached_property
    def valid(self) -> Tensor:
        """(batch, group) whether a rollout is an item."""
        return self.items >= 0

    @cached_property
    def hits(self) -> Tensor:
        """(batch, group) whether a rollout is the target itself; a twin with its codes is none."""
        return self.items == self.targets.unsqueeze(1)

    @cached_property
    def rows(self) -> Tensor:
        """(batch, group) items to look up by; 0 stands for what is no item."""
        return self.items.clamp(min=0)

    @cached_property
    def first(self) -> Tensor:
        """(batch, group) whether no earlier rollout of the group is the same item."""
        same = self.items.unsqueeze(2) == self.items.unsqueeze(1)
        return ~same.tril(diagonal=-1).any(dim=2)

    @cached_property
    def ranks(self) -> Tensor:
        """(batch, group) how many distinct items of the group are more probable; with beams that is the place."""
        above = self.log_probs.unsqueeze(1) > self.log_probs.unsqueeze(2)
        ranks: Tensor = torch.sum(above & self.first.unsqueeze(1), dim=2)
        return ranks
