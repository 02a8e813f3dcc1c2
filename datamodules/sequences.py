"""Histories for supervised fine-tuning, and the held-out prompts on which policies are validated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.histories import Windows, answer_windows, compact_windows
from datamodules.loading import EpochBatchSampler, ResumableLoader
from datamodules.mixture import TaskMixture
from datamodules.prompts import PromptBuilder
from datamodules.splits import HeldOut, Sequences

__all__ = ["HeldOutBatch", "HeldOutPrompts", "PolicyDataModule", "SequenceDataModule", "training_windows"]


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
    """Examples of a held-out part as prompts; indexed by lists.

    Args:
        examples: histories and targets.
        builder: the prompt builder.
    """

    def __init__(self, examples: HeldOut, builder: PromptBuilder) -> None:
        self.examples = examples
        self.targets = torch.from_numpy(examples.targets)
        self.builder = builder

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: list[int]) -> HeldOutBatch:
        prompts = self.builder.prompts(self.examples.histories.take(index))
        return HeldOutBatch(prompts.input_ids, prompts.attention_mask, self.targets[index])


def training_windows(sequences: Sequences, builder: PromptBuilder, task: str = "next_item") -> Windows:
    """The windows that a task learns from; held-out items are in none.

    Where a history is its SID tokens alone, one window teaches the next item at every position.
    """
    every_position = builder.style == "compact" and task == "next_item"
    return (compact_windows if every_position else answer_windows)(sequences.train, builder.max_history)


class PolicyDataModule(lightning.LightningDataModule, ABC):
    """What SFT and GRPO share: validation prompts in the users' order, each on one rank.

    Args:
        sequences: all users.
        builder: the prompt builder.
        batch_size: training samples per step and device.
        valid_users: validation examples, one per user under leave-one-out; None for all.
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
        examples = sequences.held_out("valid")
        # The subset is the same for every experiment on the same data, so its seed is fixed.
        self.valid_prompts = HeldOutPrompts(examples.take(examples.sample(valid_users, seed=0)), builder)

    @abstractmethod
    def training_set(self) -> Dataset:
        """The samples of an epoch."""

    def train_dataloader(self) -> DataLoader:
        """Shuffled by (seed, epoch); its position is part of a checkpoint."""
        data = self.training_set()
        if isinstance(data, TaskMixture):
            return self._loader(data, self.batch_size, shuffle=True, count=sum(data.drawn), draw=data.draw)
        return self._loader(data, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Validation prompts."""
        return self._loader(self.valid_prompts, self.valid_batch_size, shuffle=False)

    def _loader(
        self, dataset: Dataset, batch_size: int, shuffle: bool, count: int | None = None, draw: Any = None
    ) -> DataLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        total = len(dataset) if count is None else count  # type: ignore[arg-type]
        sampler = EpochBatchSampler(total, batch_size, self.seed, shuffle, rank, world, draw)
        return ResumableLoader(dataset, sampler, self.workers)


class SequenceDataModule(PolicyDataModule):
    """The tasks of SFT, spelled.

    Args:
        training: the samples.
        rest: as in :class:`PolicyDataModule`.
    """

    def __init__(self, training: TaskMixture, *rest: Any, **named: Any) -> None:
        super().__init__(*rest, **named)
        self.training = training

    def training_set(self) -> TaskMixture:
        """Samples of the training part."""
        return self.training
