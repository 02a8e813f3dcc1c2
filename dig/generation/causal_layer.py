"""A layer of a causal transformer that computes no padding."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CausalLayer"]


class CausalLayer(nn.Module):
    """Self-attention and a feed-forward network, each on normalised input and added to it.

    Everything but attention runs on the items that are there, one after the other: histories are short, and most of a
    padded batch would be nothing.

    Args:
        width: of the states.
        heads: attention heads.
        inner: width of the feed-forward network.
        dropout: on what attention and feed-forward network add, and within the latter.
    """

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, inner), nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, slots: Tensor) -> Tensor:
        """States (items, width) of histories that fill ``slots`` (batch, length) from the left."""
        states = states + self.dropout(self.output(self._attend(self.attention_norm(states), slots)))
        inner = self.dropout(F.gelu(self.inner(self.feed_norm(states))))
        return states + self.dropout(self.outer(inner))

    def _attend(self, states: Tensor, slots: Tensor) -> Tensor:
        batch, length = slots.shape
        found = self.queries_keys_values(states)
        padded = found.new_zeros(batch, length, found.shape[1])
        padded[slots] = found
        # what follows a history is behind it, so that causal attention never sees padding
        queries, keys, values = padded.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return attended.transpose(1, 2).reshape(batch, length, -1)[slots]
