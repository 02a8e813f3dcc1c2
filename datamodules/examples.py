"""The held-out examples of a test, dealt over the ranks, and the slices they are told apart by."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import lightning
import numpy as np
import polars as pl
from torch.utils.data import DataLoader, Dataset

from datamodules.histories import Histories
from datamodules.loading import EpochBatchSampler, ResumableLoader
from datamodules.splits import HeldOut, Sequences

__all__ = [
    "ExampleBatch",
    "ExampleDataModule",
    "Examples",
    "label_slices",
]


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
        batch_size: examples a batch.
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


_RARE = 5
_LENGTHS = (1, 5, 10, 20)


def label_slices(sequences: Sequences, num_items: int) -> pl.DataFrame:
    """A row an example of validation and test, in the order of :meth:`Sequences.held_out`.

    Args:
        sequences: all users.
        num_items: size of the catalogue.

    Returns:
        ``part`` (valid or test); ``target_slice``, how often the training part holds the target: ``cold`` never,
        ``rare`` up to five times, else ``warm``; ``history_slice``, items in the history: ``1-4``, ``5-9``, ``10-19``,
        ``20+``.
    """
    counts = np.bincount(sequences.train.flat(), minlength=num_items)
    frames = []
    for part in ("valid", "test"):
        held_out = sequences.held_out(part)
        seen = counts[held_out.targets]
        popularity = np.select([seen == 0, seen <= _RARE], ["cold", "rare"], "warm")
        bucket = np.searchsorted(_LENGTHS, held_out.histories.lengths, side="right") - 1
        lengths = np.array(_bucket_names())[bucket]
        frames.append(
            pl.DataFrame({"target_slice": popularity, "history_slice": lengths}).with_columns(
                pl.lit(part).alias("part")
            )
        )
    return pl.concat(frames).select("part", "target_slice", "history_slice")


def _bucket_names() -> list[str]:
    return [*(f"{low}-{high - 1}" for low, high in pairwise(_LENGTHS)), f"{_LENGTHS[-1]}+"]
