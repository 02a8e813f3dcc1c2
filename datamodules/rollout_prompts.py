"""Prompts for GRPO: each travels with its own target, so users with equal histories never share one by accident."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.histories import Ragged, latest_windows
from datamodules.loading import draw_shares
from datamodules.prompts import PromptBuilder
from datamodules.sequences import PolicyDataModule
from datamodules.splits import Sequences
from datamodules.tasks import ItemTexts, TaskSource
from dig.rollouts.record import Rollouts

__all__ = ["PromptDataModule", "TrainingPrompts"]


class TrainingPrompts(Dataset[Rollouts]):
    """The prompts of an epoch, one task's after the other's; indexed by lists.

    Tasks over histories ask for the latest items of each user's training part, each with what came before it; tasks
    over items ask for every item that has the text.

    Args:
        sequences: all users; their held-out items are left out here.
        builder: the prompt builder.
        per_user: at most this many targets per user.
        shares: how much of each task an epoch holds.
        texts: what the tasks read.
        seed: decides which prompt gets which wording.
    """

    def __init__(
        self,
        sequences: Sequences,
        builder: PromptBuilder,
        per_user: int,
        shares: Mapping[str, float] | None = None,
        texts: ItemTexts | None = None,
        seed: int = 0,
    ) -> None:
        self.builder = builder
        self.windows = latest_windows(sequences.train, builder.max_history, per_user)
        self.shares = dict(shares or {"next_item": 1.0})
        self.sources = [TaskSource(name, builder, self.windows, texts or ItemTexts(), seed) for name in self.shares]
        self.begins = np.append(0, np.cumsum([len(source) for source in self.sources], dtype=np.int64))

    def __len__(self) -> int:
        return int(self.begins[-1])

    @property
    def drawn(self) -> list[int]:
        """Prompts of each task in an epoch."""
        return [round(share * len(source)) for share, source in zip(self.shares.values(), self.sources, strict=True)]

    def draw(self, generator: torch.Generator) -> Tensor:
        """The prompts of an epoch in random order: (sum of ``drawn``,)."""
        return draw_shares([len(source) for source in self.sources], self.drawn, generator)

    def __getitem__(self, index: list[int]) -> Rollouts:
        numbers = np.asarray(index)
        owner = np.searchsorted(self.begins, numbers, side="right") - 1
        histories = np.full((len(numbers), self.builder.max_history), -1, dtype=np.int64)
        targets = np.empty(len(numbers), dtype=np.int64)
        parts, places = [], []
        for number in np.unique(owner):
            source, mine = self.sources[number], np.flatnonzero(owner == number)
            rows = numbers[mine] - self.begins[number]
            targets[mine] = source.targets.take(rows).flat()
            if source.task.over == "windows":
                histories[mine] = source.asked.take(rows).padded(self.builder.max_history)
            parts.append(self._spelled(source, rows))
            places.append(mine)
        order = np.argsort(np.concatenate(places), kind="stable")
        return Rollouts.of_prompts(
            *self.builder.padded(_joined(parts).take(order)),
            torch.from_numpy(targets),
            torch.from_numpy(histories[:, _empty_columns(histories) :].copy()),
            torch.from_numpy(numbers),
        )

    def _spelled(self, source: TaskSource, rows: np.ndarray) -> Ragged:
        """A task's prompts; those for the next item after Semantic IDs are evaluation's, word for word."""
        if source.name != "next_item":
            return source.prompts(rows)
        return self.builder.framed("next_item", self.builder.spelled(source.asked.take(rows)))


class PromptDataModule(PolicyDataModule):
    """Training prompts for GRPO.

    Args:
        training: the prompts.
        rest: as in :class:`PolicyDataModule`.
    """

    def __init__(self, training: TrainingPrompts, *rest: Any, **named: Any) -> None:
        super().__init__(*rest, **named)
        self.training = training

    def training_set(self) -> TrainingPrompts:
        """Prompts of the training part."""
        return self.training

    def train_dataloader(self) -> DataLoader:
        """Shuffled by (seed, epoch); its position is part of a checkpoint."""
        data = self.training
        return self._loader(data, self.batch_size, shuffle=True, count=sum(data.drawn), draw=data.draw)


def _joined(parts: list[Ragged]) -> Ragged:
    """All rows of all parts, one part after the other."""
    values = np.concatenate([part.values[part.offsets[0] : part.offsets[-1]] for part in parts])
    return Ragged.from_lengths(values, np.concatenate([part.lengths for part in parts]))


def _empty_columns(histories: np.ndarray) -> int:
    """Leading columns that hold no item; one column always stays."""
    used = (histories >= 0).any(axis=0)
    return int(used.argmax()) if used.any() else histories.shape[1] - 1
