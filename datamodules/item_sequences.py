"""Histories as catalogue rows, for sequential models that know items by number."""

from __future__ import annotations

from dataclasses import dataclass

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.loading import EpochBatchSampler, ResumableLoader
from datamodules.splits import HeldOut, Sequences
from datamodules.windows import compact_windows

__all__ = ["ItemBatch", "ItemSequences"]


@dataclass
class ItemBatch:
    """Histories and what came next.

    Attributes:
        histories: (batch, length) catalogue rows, the oldest first, -1 before the first.
        targets: (batch, length) the row after each, -1 where nothing is learned; (batch,) in validation.
        samples: (batch,) numbers of the histories.
    """

    histories: Tensor
    targets: Tensor
    samples: Tensor


class _Windows(Dataset[ItemBatch]):
    """The training part; every item but a user's first is a target once."""

    def __init__(self, sequences: Sequences, max_history: int) -> None:
        self.windows = compact_windows(sequences.train, max_history)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: list[int]) -> ItemBatch:
        windows = self.windows.histories.take(index)
        length = int(windows.lengths.max()) - 1  # no wider than the longest of the batch
        rows = windows.padded(length + 1)
        places = np.arange(length, 0, -1)
        learned = places <= self.windows.supervised[index][:, None]
        targets = np.where(learned, rows[:, 1:], -1)
        return ItemBatch(*(torch.from_numpy(found) for found in (rows[:, :-1].copy(), targets, np.asarray(index))))


class _HeldOut(Dataset[ItemBatch]):
    def __init__(self, examples: HeldOut, max_history: int) -> None:
        self.examples, self.length = examples, max_history

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: list[int]) -> ItemBatch:
        histories = self.examples.histories.take(index)
        rows = histories.padded(min(self.length, max(int(histories.lengths.max()), 1)))
        return ItemBatch(
            torch.from_numpy(rows), torch.from_numpy(self.examples.targets[index]), torch.from_numpy(np.asarray(index))
        )


class ItemSequences(lightning.LightningDataModule):
    """Training windows, and the held-out items in validation.

    Args:
        sequences: all users.
        max_history: latest items that a model reads.
        batch_size: windows a step and device.
        valid_users: validation examples; None for all.
        seed: seed of the training order.
        workers: worker processes.
    """

    def __init__(
        self,
        sequences: Sequences,
        max_history: int,
        batch_size: int,
        valid_users: int | None,
        seed: int,
        workers: int = 0,
    ) -> None:
        super().__init__()
        examples = sequences.held_out("valid")
        self.training = _Windows(sequences, max_history)
        self.validation = _HeldOut(examples.take(examples.sample(valid_users, seed=0)), max_history)
        self.batch_size, self.seed, self.workers = batch_size, seed, workers

    def train_dataloader(self) -> DataLoader:
        """Shuffled by (seed, epoch); its position is part of a checkpoint."""
        return self._loader(self.training, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Users in their order."""
        return self._loader(self.validation, 4 * self.batch_size, shuffle=False)

    def _loader(self, dataset: Dataset, batch_size: int, shuffle: bool) -> DataLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochBatchSampler(len(dataset), batch_size, self.seed, shuffle, rank, world)  # type: ignore[arg-type]
        return ResumableLoader(dataset, sampler, self.workers)
