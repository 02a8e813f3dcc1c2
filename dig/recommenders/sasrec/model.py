"""SASRec (arXiv 1808.09781) with a full softmax: a causal transformer over items by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from dig.config import Config
from dig.engine.artifacts import write_json
from dig.evaluation.rankers import Scorer, padded_rows
from dig.generation.causal_layer import CausalLayer, Slots
from dig.received.weights import load_module, read_section
from dig.recommenders.sasrec import SASRecConfig

__all__ = ["SASRec", "latest_items", "load"]

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_SHAPE = ("hidden_size", "layers", "heads", "max_history")
"""Without these nobody knows what the weights mean."""


class SequentialSizes(Protocol):
    """What the layers are made by: SASRec's settings, or those of a model that reads their states."""

    @property
    def hidden_size(self) -> int:
        """Width of the states."""
        ...

    @property
    def layers(self) -> int:
        """Depth."""
        ...

    @property
    def heads(self) -> int:
        """Of each layer."""
        ...

    @property
    def feed_forward(self) -> int:
        """Inner width of a layer, in widths of the states."""
        ...

    @property
    def scale(self) -> float | None:
        """Length of the rows that states are multiplied with; None multiplies them as they are."""
        ...

    @property
    def dropout(self) -> float:
        """Share that is dropped."""
        ...

    @property
    def max_history(self) -> int:
        """Items of a history that are read."""
        ...


class SASRec(nn.Module, Scorer):
    """Predicts the next item from the latest ones; the output layer is the item table.

    Everything but attention runs on the items that are there, one after the other without padding: histories are
    short, and most of a padded batch would be nothing.

    Args:
        num_items: size of the catalogue.
        config: width, depth and longest history; EIMF's, where it reads the states of these layers.
    """

    def __init__(self, num_items: int, config: SequentialSizes) -> None:
        super().__init__()
        self.config = config
        self.items = nn.Embedding(num_items, config.hidden_size)
        self.positions = nn.Embedding(config.max_history, config.hidden_size)
        nn.init.normal_(self.items.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        inner = config.feed_forward * config.hidden_size
        self.layers = nn.ModuleList(
            CausalLayer(config.hidden_size, config.heads, inner, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def states(self, histories: Tensor) -> Tensor:
        """States after every item, histories one after the other.

        Args:
            histories: (batch, length) rows, -1 where there is none, before or behind the items; at most ``max_history``
                items each.

        Returns:
            (items of all histories, width), of length 1 under ``config.scale``.
        """
        states = self.encode(histories)
        return states if self.config.scale is None else F.normalize(states.to(self.items.weight.dtype), dim=-1)

    def encode(self, histories: Tensor) -> Tensor:
        """The same at the length that the last normalisation gives them."""
        mask = histories >= 0
        lengths = mask.sum(dim=1)
        filled = torch.arange(histories.shape[1], device=histories.device) < lengths.unsqueeze(1)
        places = filled.nonzero()[:, 1]
        states = self.dropout(self.items(histories[mask]) + self.positions(places))
        slots = [Slots(filled, len(states))] if len(states) else []
        for layer in self.layers:
            states = layer(states, slots)
        encoded: Tensor = self.norm(states)
        return encoded

    def output_table(self) -> Tensor:
        """(items, width) what states are multiplied with: the item table, its rows that long under ``config.scale``."""
        table = self.items.weight
        return table if self.config.scale is None else self.config.scale * F.normalize(table, dim=-1)

    def logits(self, states: Tensor) -> Tensor:
        """(…, items) of states (…, width)."""
        return F.linear(states, self.output_table())

    def next_logits(self, histories: Tensor) -> Tensor:
        """(batch, items) after histories (batch, length); 0 after none."""
        histories = latest_items(histories, self.config.max_history)
        lengths = (histories >= 0).sum(dim=1)
        states = self.states(histories)
        last = (lengths.cumsum(dim=0) - 1).clamp(min=0)
        last_states = states[last] if len(states) else states.new_zeros(len(histories), states.shape[1])
        return self.logits(last_states * (lengths > 0).unsqueeze(1))

    def forward(self, histories: Tensor) -> Tensor:
        """Log-probabilities (batch, items) of the next item after histories (batch, length); uniform after none."""
        return self.next_logits(histories).log_softmax(dim=-1)

    @torch.inference_mode()
    def scores(self, histories: Sequence[np.ndarray]) -> Tensor:
        """(batch, items) logits, on the model's device."""
        latest = [history[-self.config.max_history :] for history in histories]
        return self.next_logits(padded_rows(latest).to(self.items.weight.device)).float()

    def save(self, folder: Path, metadata: dict[str, str] | None = None) -> None:
        """Writes weights and sizes; ``metadata`` goes into the weights, the stamp of the catalogue, say."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.to("cpu", torch.float32).contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, folder / _WEIGHTS, metadata)
        write_json(folder / _CONFIG, asdict(cast(Any, self.config)))

    @classmethod
    def load(cls, folder: Path) -> SASRec:
        """Reads what :meth:`save` wrote, for evaluation.

        Raises:
            UserError: a file is missing or damaged, or the weights are not those of the configuration.
        """
        # without a scale it was saved before there were any
        config = read_section(folder / _CONFIG, SASRecConfig, required=_SHAPE, scale=None)
        return load_module(
            folder / _WEIGHTS, lambda header: cls(header["items.weight"].shape[0], config), config.layers
        )


def load(folder: Path, config: Config, device: torch.device | str | None) -> SASRec:
    """The ranker of a finished stage."""
    return SASRec.load(folder).to(device or "cpu")


def latest_items(histories: Tensor, longest: int) -> Tensor:
    """The latest items of each row (batch, length), wherever its padding is."""
    mask = histories >= 0
    later = mask.flip(1).cumsum(dim=1).flip(1)  # items from here on
    return histories.masked_fill(later > longest, -1)
