"""Histories for supervised fine-tuning, and the held-out prompts on which policies are validated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.loading import EpochBatchSampler, ResumableLoader
from datamodules.prompts import PromptBuilder, TrainingTokens
from datamodules.splits import Sequences

__all__ = ["HeldOutBatch", "HeldOutPrompts", "PolicyDataModule", "SequenceDataModule", "TrainingWindows"]


@dataclass
class HeldOutBatch:
    """Prompts with the item that came next.

    Attributes:
        input_ids: (batch, prompt).
        attention_mask: (batch, prompt).
        targets: (batch,) catalogue rows.
    """

    input_ids: Tensor
    attention_mask: Tensor
    targets: Tensor


class HeldOutPrompts(Dataset[HeldOutBatch]):
    """Each chosen user's history with the held-out item of a split; indexed by lists.

    Args:
        sequences: all users.
        builder: the prompt builder.
        split: ``valid`` or ``test``.
        users: positions of the users.
    """

    def __init__(self, sequences: Sequences, builder: PromptBuilder, split: str, users: np.ndarray) -> None:
        histories, targets = sequences.histories(split), sequences.targets(split)
        self.histories = [histories[user] for user in users]
        self.targets = torch.from_numpy(targets[users])
        self.builder = builder

    def __len__(self) -> int:
        return len(self.histories)

    def __getitem__(self, index: list[int]) -> HeldOutBatch:
        prompts = self.builder.prompts([self.histories[i] for i in index])
        return HeldOutBatch(prompts.input_ids, prompts.attention_mask, self.targets[index])


class TrainingWindows(Dataset[TrainingTokens]):
    """The training part, cut so that every item but a user's first is a target exactly once; indexed by lists.

    Compact prompts supervise all targets of a window in one pass: a sequence longer than ``max_history + 1`` is cut
    into windows that overlap by half, and only the items that no earlier window has taught are targets. Text prompts
    end in one answer, so there every target has a window of its own.

    Args:
        sequences: all users; their two held-out items are left out here.
        builder: the prompt builder.
    """

    def __init__(self, sequences: Sequences, builder: PromptBuilder) -> None:
        self.builder = builder
        cut = _compact_windows if builder.style == "compact" else _answer_windows
        self.windows: list[tuple[np.ndarray, int]] = [
            window for rows in sequences.train for window in cut(rows, builder.max_history)
        ]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: list[int]) -> TrainingTokens:
        chosen = [self.windows[i] for i in index]
        supervised = np.array([count for _, count in chosen], dtype=np.int64)
        return self.builder.training([window for window, _ in chosen], supervised)


def _compact_windows(rows: np.ndarray, max_history: int) -> list[tuple[np.ndarray, int]]:
    if len(rows) < 2:
        return []
    size = max_history + 1
    end = min(size, len(rows))
    windows = [(rows[:end], end - 1)]
    while end < len(rows):
        step = min(max(size // 2, 1), len(rows) - end)
        end += step
        windows.append((rows[end - size : end], step))
    return windows


def _answer_windows(rows: np.ndarray, max_history: int) -> list[tuple[np.ndarray, int]]:
    return [(rows[max(0, end - max_history) : end + 1], 1) for end in range(1, len(rows))]


class PolicyDataModule(lightning.LightningDataModule, ABC):
    """What SFT and GRPO share: validation prompts in the users' order, each on one rank.

    Args:
        sequences: all users.
        builder: the prompt builder.
        batch_size: training samples a step and device.
        valid_users: size of the validation subset, None for all.
        valid_batch_size: users a validation batch.
        seed: seed of the training order.
        workers: worker processes.
    """

    def __init__(
        self,
        sequences: Sequences,
        builder: PromptBuilder,
        batch_size: int,
        valid_users: int | None,
        valid_batch_size: int,
        seed: int,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.sequences = sequences
        self.builder = builder
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.valid_batch_size = valid_batch_size
        # The subset is the same for every experiment on the same data, so its seed is fixed.
        users = sequences.sample_users(valid_users, seed=0)
        self.valid_prompts = HeldOutPrompts(sequences, builder, "valid", users)

    @abstractmethod
    def training_set(self) -> Dataset:
        """The samples of an epoch."""

    def train_dataloader(self) -> DataLoader:
        """Shuffled by (seed, epoch); its position is part of a checkpoint."""
        return self._loader(self.training_set(), self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Validation prompts."""
        return self._loader(self.valid_prompts, self.valid_batch_size, shuffle=False)

    def _loader(self, dataset: Dataset, batch_size: int, shuffle: bool) -> DataLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        count = len(dataset)  # type: ignore[arg-type]
        sampler = EpochBatchSampler(count, batch_size, self.seed, shuffle, rank, world)
        return ResumableLoader(dataset, sampler, self.workers)


class SequenceDataModule(PolicyDataModule):
    """Training windows for SFT."""

    def training_set(self) -> TrainingWindows:
        """Windows of the training part."""
        return TrainingWindows(self.sequences, self.builder)
