"""Prompts for GRPO: each travels with its own target, so users with equal histories never share one by accident."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

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
        pairs = [
            (rows[:position], rows[position])
            for rows in sequences.train
            for position in range(max(1, len(rows) - per_user), len(rows))
        ]
        self.histories = [history for history, _ in pairs]
        self.targets = torch.from_numpy(np.array([target for _, target in pairs], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.histories)

    def __getitem__(self, index: list[int]) -> HeldOutBatch:
        prompts = self.builder.prompts([self.histories[i] for i in index])
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
