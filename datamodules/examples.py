"""The held-out examples of a test, dealt over the ranks."""

from __future__ import annotations

from dataclasses import dataclass

import lightning
import numpy as np
from torch.utils.data import DataLoader, Dataset

from datamodules.histories import Histories
from datamodules.loading import EpochBatchSampler, ResumableLoader
from datamodules.splits import HeldOut

__all__ = ["ExampleBatch", "ExampleDataModule", "Examples"]


@dataclass(frozen=True)
class ExampleBatch:
    """What is asked and what was right.

    Attributes:
        examples: (batch,) numbers of the examples.
        histories: (batch,) catalogue rows.
        targets: (batch,) int64 catalogue rows.
        candidates: (batch, any) int64 one-hop candidates, -1 where there are fewer.
    """

    examples: np.ndarray
    histories: Histories
    targets: np.ndarray
    candidates: np.ndarray


class Examples(Dataset[ExampleBatch]):
    """Examples of a held-out part; indexed by lists.

    Args:
        examples: histories and targets.
        candidates: (examples, any) one-hop candidates.
    """

    def __init__(self, examples: HeldOut, candidates: np.ndarray) -> None:
        self.examples, self.candidates = examples, candidates

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: list[int]) -> ExampleBatch:
        rows = np.asarray(index)
        examples = self.examples.take(rows)
        return ExampleBatch(rows, examples.histories, examples.targets, self.candidates[rows].astype(np.int64))


class ExampleDataModule(lightning.LightningDataModule):
    """Every example once, on one rank, in order.

    Args:
        examples: the examples.
        batch_size: examples per batch.
    """

    def __init__(self, examples: Examples, batch_size: int) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # there may be more ranks than examples
        self.examples, self.batch_size = examples, batch_size

    def test_dataloader(self) -> DataLoader:
        """Loader of this rank's examples."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochBatchSampler(len(self.examples), self.batch_size, 0, False, rank, world)
        return ResumableLoader(self.examples, sampler)
