"""SASRec (arXiv 1808.09781) with a full softmax: a causal transformer over items by number."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dig.config.schema import SequentialConfig

__all__ = ["SASRec"]


class SASRec(nn.Module):
    """Predicts the next item from the latest ones; the output layer is the item table.

    Args:
        num_items: size of the catalogue.
        config: width, depth and longest history.
    """

    def __init__(self, num_items: int, config: SequentialConfig) -> None:
        super().__init__()
        self.max_history = config.max_history
        self.items = nn.Embedding(num_items, config.hidden_size)
        self.positions = nn.Embedding(config.max_history, config.hidden_size)
        nn.init.normal_(self.items.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            config.hidden_size, config.heads, 4 * config.hidden_size, config.dropout, "gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        norm = nn.LayerNorm(config.hidden_size)
        self.layers = nn.TransformerEncoder(layer, config.layers, norm, enable_nested_tensor=False)
        self.dropout = nn.Dropout(config.dropout)

    def states(self, histories: Tensor) -> Tensor:
        """States (batch, length, width) after each item of histories (batch, length), -1 before the first."""
        histories = histories[:, -self.max_history :]
        length = histories.shape[1]
        there = histories >= 0
        # positions count from the latest item, so that they do not depend on how far a batch is padded
        places = torch.arange(length - 1, -1, -1, device=histories.device)
        vectors = self.items(histories.clamp(min=0)) + self.positions(places)
        causal = torch.ones(length, length, dtype=torch.bool, device=histories.device).tril()
        itself = torch.eye(length, dtype=torch.bool, device=histories.device)
        visible = causal & (there.unsqueeze(1) | itself)
        heads = self.layers.layers[0].self_attn.num_heads
        return self.layers(self.dropout(vectors), mask=~visible.repeat_interleave(heads, dim=0))

    def logits(self, states: Tensor) -> Tensor:
        """(…, items) of states (…, width)."""
        return F.linear(states, self.items.weight)

    def forward(self, histories: Tensor) -> Tensor:
        """Log-probabilities (batch, items) of the next item; uniform after an empty history would mean nothing."""
        return self.logits(self.states(histories)[:, -1]).log_softmax(dim=-1)
