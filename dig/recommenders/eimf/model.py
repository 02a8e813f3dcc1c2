"""EIMF's behaviour side (arXiv 2411.09410): several interests per customer; an item counts by the nearest of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from dig.config import Config
from dig.engine.artifacts import write_json
from dig.evaluation.rankers import Scorer, padded_rows
from dig.received.weights import load_module, read_section
from dig.recommenders.eimf import EIMFConfig
from dig.recommenders.eimf.extraction import ages_after_every_item, ages_at_the_end, build_extraction
from dig.recommenders.sasrec.model import SASRec, latest_items

__all__ = ["EIMF", "load"]

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_SHAPE = ("hidden_size", "layers", "heads", "max_history", "interests", "extraction")
"""Without these nobody knows what the weights mean."""


class EIMF(nn.Module, Scorer):
    """Draws interests from the states of a causal transformer, or from items alone; needs behaviour and no text.

    Histories of like length are read together, so that little of a batch is padding.

    Args:
        num_items: size of the catalogue.
        config: sizes, the kind of extraction, the number of interests.
    """

    def __init__(self, num_items: int, config: EIMFConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SASRec(num_items, config)
        self.extraction = build_extraction(config)

    def interests(self, histories: Tensor) -> Tensor:
        """Interests after every item, histories one after the other.

        Args:
            histories: (batch, length) rows, -1 where there is none, before or behind the items; at most ``max_history``
                items each.

        Returns:
            (items of all histories, K, width), of length 1 under ``config.scale``.
        """
        states, slots = self._states(histories)
        numbers = torch.zeros_like(slots, dtype=torch.int64)
        numbers[slots] = torch.arange(int(slots.sum()), device=slots.device)
        parts, order = [states.new_zeros(0, self.config.interests, states.shape[-1])], [numbers.new_zeros(0)]
        for rows, longest in _of_like_length(slots.sum(dim=1)):
            filled, read = slots[rows, :longest], states[rows, :longest]
            extracted = self.extraction(read, ages_after_every_item(longest, slots.device))
            parts.append((extracted + read.unsqueeze(2) if self.config.residual else extracted)[filled])
            order.append(numbers[rows, :longest][filled])
        return self._directed(torch.cat(parts)[torch.cat(order).argsort()])

    def latest_interests(self, histories: Tensor) -> Tensor:
        """Interests (batch, K, width) at the end of histories (batch, length), 0 where there is no item."""
        states, slots = self._states(latest_items(histories, self.config.max_history))
        lengths = slots.sum(dim=1)
        latest = self.extraction(states, ages_at_the_end(lengths, slots.shape[1])).squeeze(1)
        if self.config.residual:
            places = torch.arange(len(states), device=states.device)
            latest = latest + states[places, (lengths - 1).clamp(min=0)].unsqueeze(1)
        return self._directed(latest) * (lengths > 0).view(-1, 1, 1)

    def output_table(self) -> Tensor:
        """(items, width) what interests are multiplied with."""
        return self.encoder.output_table()

    def next_logits(self, histories: Tensor) -> Tensor:
        """(batch, items) after histories (batch, length): the best of the interests' logits; 0 after none."""
        table, interests = self.output_table(), self.latest_interests(histories)
        best = F.linear(interests[:, 0], table)
        for each in range(1, interests.shape[1]):  # one after the other, so that no more than two are in memory
            best = torch.maximum(best, F.linear(interests[:, each], table))
        return best

    @torch.inference_mode()
    def scores(self, histories: Sequence[np.ndarray]) -> Tensor:
        """(batch, items) logits, on the model's device."""
        latest = [history[-self.config.max_history :] for history in histories]
        return self.next_logits(padded_rows(latest).to(self.encoder.items.weight.device)).float()

    def save(self, folder: Path, metadata: dict[str, str] | None = None) -> None:
        """Writes weights and sizes; ``metadata`` goes into the weights, the stamp of the catalogue, say."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.to("cpu", torch.float32).contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, folder / _WEIGHTS, metadata)
        write_json(folder / _CONFIG, asdict(self.config))

    @classmethod
    def load(cls, folder: Path) -> EIMF:
        """Reads what :meth:`save` wrote, for evaluation.

        Raises:
            UserError: a file is missing or damaged, or the weights are not those of the configuration.
        """
        config = read_section(folder / _CONFIG, EIMFConfig, required=_SHAPE)
        items = "encoder.items.weight"
        return load_module(folder / _WEIGHTS, lambda header: cls(header[items].shape[0], config), config.layers)

    def _states(self, histories: Tensor) -> tuple[Tensor, Tensor]:
        """States (batch, length, width) of histories from the left, 0 behind them, and where they are."""
        lengths = (histories >= 0).sum(dim=1)
        slots = torch.arange(histories.shape[1], device=histories.device) < lengths.unsqueeze(1)
        encoded = self.encoder.encode(histories)
        states = encoded.new_zeros(*histories.shape, encoded.shape[-1])
        states[slots] = encoded
        return states, slots

    def _directed(self, interests: Tensor) -> Tensor:
        if self.config.scale is None:
            return interests
        return F.normalize(interests.to(self.encoder.items.weight.dtype), dim=-1)


def load(folder: Path, config: Config, device: torch.device | str | None) -> EIMF:
    """The ranker of a finished stage."""
    return EIMF.load(folder).to(device or "cpu")


def _of_like_length(lengths: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Rows whose lengths lie within a factor of two, and the longest of each; empty ones are left out."""
    classes = torch.frexp(lengths.clamp(min=4) - 0.5).exponent  # up to 4; 5 to 8; 9 to 16; …
    for each in classes[lengths > 0].unique():
        rows = ((classes == each) & (lengths > 0)).nonzero()[:, 0]
        yield rows, int(lengths[rows].max())
