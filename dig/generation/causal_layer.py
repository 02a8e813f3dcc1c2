"""A layer of a causal transformer that computes no padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["CausalLayer", "Slots", "by_length"]


@dataclass(frozen=True)
class Slots:
    """Where histories of similar length stand while they attend to themselves.

    Attributes:
        filled: (histories, longest) True at items, which fill rows from the left.
        items: how many there are.
    """

    filled: Tensor
    items: int


def by_length(lengths: Tensor) -> tuple[Tensor, list[Slots]]:
    """An order of items in which histories of similar length are neighbours, and a place to attend for each such group.

    Attention is the one part that pads; among histories of 5 to 8 items, or 9 to 16, there is little to pad.

    Args:
        lengths: (histories,) items of each, one history after the other.

    Returns:
        (items,) the item at each place, and the groups in the order of the places.
    """
    group = (lengths - 1).clamp(min=0).float().log2().floor().long().masked_fill(lengths < 2, -1)
    order = group.argsort(stable=True)
    sorted_lengths = lengths[order]
    starts = (lengths.cumsum(dim=0) - lengths)[order]
    ends = sorted_lengths.cumsum(dim=0)
    owners = torch.repeat_interleave(sorted_lengths)
    places = torch.arange(len(owners), device=lengths.device) - (ends - sorted_lengths)[owners]
    slots = []
    for part in sorted_lengths.split(torch.unique_consecutive(group[order], return_counts=True)[1].tolist()):
        longest, items = int(part.max()), int(part.sum())
        if items:
            slots.append(Slots(torch.arange(longest, device=lengths.device) < part.unsqueeze(1), items))
    return starts[owners] + places, slots


class CausalLayer(nn.Module):
    """Self-attention and a feed-forward network, each on normalised input and added to it.

    Everything but attention runs on the items that are there, one after the other: histories are short, and most of a
    padded batch would be nothing.

    Args:
        width: of the states.
        heads: attention heads.
        inner: width of the feed-forward network.
        dropout: on what attention and feed-forward network add, and within the latter.
        frugal: compute what is wider than a state again in the backward pass instead of keeping it: queries, keys and
            values, padded, and the feed-forward network's activations.
    """

    def __init__(self, width: int, heads: int, inner: int, dropout: float, frugal: bool = False) -> None:
        super().__init__()
        self.frugal = frugal
        self.heads = heads
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, inner), nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, slots: Sequence[Slots]) -> Tensor:
        """States (items, width) of the histories in ``slots``, one group after the other."""
        attended = self._again(self._attend, self.attention_norm(states), slots, preserve_rng_state=False)
        states = states + self.dropout(self.output(attended))
        activated = self._again(self._activated, self.inner(self.feed_norm(states)))
        return states + self.dropout(activated)

    def _again(self, part: Callable[..., Tensor], *inputs: Any, **settings: Any) -> Tensor:
        if self.frugal and torch.is_grad_enabled():
            result: Tensor = checkpoint(part, *inputs, use_reentrant=False, **settings)
            return result
        return part(*inputs)

    def _activated(self, inner: Tensor) -> Tensor:
        outer: Tensor = self.outer(self.dropout(F.gelu(inner)))
        return outer

    def _attend(self, states: Tensor, slots: Sequence[Slots]) -> Tensor:
        projected = self.queries_keys_values(states)
        if not slots:
            return states
        parts = projected.split([group.items for group in slots])
        return torch.cat([self._among(part, group.filled) for part, group in zip(parts, slots, strict=True)])

    def _among(self, projected: Tensor, filled: Tensor) -> Tensor:
        batch, length = filled.shape
        padded = projected.new_zeros(batch, length, projected.shape[1])
        padded[filled] = projected
        # what follows a history is behind it, so that causal attention never sees padding
        queries, keys, values = padded.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return attended.transpose(1, 2).reshape(batch, length, -1)[filled]
