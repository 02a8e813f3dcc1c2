"""Prompts for GRPO: each travels with its own target, so users with equal histories never share one by accident."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.histories import Histories
from datamodules.prompts import PromptBuilder
from datamodules.sequences import HeldOutBatch, PolicyDataModule
from datamodules.splits import Sequences

__all__ = ["PromptDataModule", "TrainingPrompts"]


class TrainingPrompts(Dataset[HeldOutBatch]):
    """The latest items of each user's training part, each with the history before it; indexed by lists.

    Args:
        sequences: all users; their two held-out items are left out here.
        builder: the prompt builder.
        per_user: at most this many targets a user.
    """

    def __init__(self, sequences: Sequences, builder: PromptBuilder, per_user: int) -> None:
        self.builder = builder
        train = sequences.train
        counts = np.minimum(np.maximum(train.lengths - 1, 0), per_user)
        users = np.repeat(np.arange(len(train)), counts)
        # Each user's last `counts` positions, the earliest of them first.
        turn = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
        positions = train.ends[users] - counts[users] + turn
        self.histories = Histories(train.items, train.starts[users], positions)
        self.targets = torch.from_numpy(train.items[positions].astype(np.int64))

    def __len__(self) -> int:
        return len(self.histories)

    def with_targets(self) -> Histories:
        """Every history together with its target."""
        return Histories(self.histories.items, self.histories.starts, self.histories.ends + 1)

    def __getitem__(self, index: list[int]) -> HeldOutBatch:
        prompts = self.builder.prompts(self.histories.take(index))
        return HeldOutBatch(prompts.input_ids, prompts.attention_mask, self.targets[index])


class PromptDataModule(PolicyDataModule):
    """Training prompts for GRPO.

    Args:
        per_user: prompts from each user's training part.
        rest: as in :class:`PolicyDataModule`.
    """

    def __init__(self, *rest: Any, per_user: int, **named: Any) -> None:
        super().__init__(*rest, **named)
        self.per_user = per_user

    def training_set(self) -> TrainingPrompts:
        """Prompts of the training part."""
        return TrainingPrompts(self.sequences, self.builder, self.per_user)
