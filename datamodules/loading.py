"""Loaders whose order is a pure function of (seed, epoch, rank) and whose position is part of a checkpoint.

A resumed epoch sees exactly the batches that the interrupted one had left: Lightning saves and restores the state of
a loader that has ``state_dict`` and ``load_state_dict``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["EpochBatchSampler", "ResumableLoader", "draw_shares"]


class EpochBatchSampler(Sampler[list[int]]):
    """Batches of indices for one rank, shuffled by (seed, epoch).

    The order does not depend on the number of ranks: they share each batch of ``batch_size · world_size`` samples, so
    two ranks with half the batch size see together at every step what one process sees. Every sample is dealt to
    exactly one rank. With ``shuffle`` the ranks get equally many batches, since collective calls have to stay in step:
    what is short at the end is filled up from the start of the epoch's order. Without it (evaluation) nothing is
    repeated and nothing is dropped.

    Args:
        num_samples: samples of an epoch, the size of the data set unless ``draw`` says otherwise.
        batch_size: samples per batch and rank.
        seed: seed of the order.
        shuffle: whether to shuffle; False keeps the order of the data.
        rank: this process's rank.
        world_size: number of ranks.
        draw: gives the shuffled samples of an epoch, ``num_samples`` of them; None is a permutation of all.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        draw: Callable[[torch.Generator], torch.Tensor] | None = None,
    ) -> None:
        self.num_samples = num_samples
        self.draw = draw
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of batches of this rank."""
        return -(-self._samples_of_rank() // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        mine = self._order()[self.rank :: self.world_size]
        for start in range(0, len(mine), self.batch_size):
            yield mine[start : start + self.batch_size].tolist()

    def _samples_of_rank(self) -> int:
        if self.shuffle:
            return -(-self.num_samples // self.world_size)
        return len(range(self.rank, self.num_samples, self.world_size))

    def _order(self) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(self.num_samples)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = self.draw(generator) if self.draw else torch.randperm(self.num_samples, generator=generator)
        dealt = self._samples_of_rank() * self.world_size
        return order.repeat(-(-dealt // max(self.num_samples, 1)))[:dealt]


class ResumableLoader(DataLoader):
    """A DataLoader over whole batches: ``dataset[list of indices]`` gives a batch, without per-sample collation.

    Args:
        dataset: its ``__getitem__`` takes a list of indices and returns a batch.
        sampler: yields lists of indices.
        workers: worker processes.
    """

    def __init__(self, dataset: Dataset[Any], sampler: EpochBatchSampler, workers: int = 0) -> None:
        # The loader's own generator: torch would otherwise draw a base seed from the global one, and a resumed run
        # would differ from an undisturbed one.
        generator = torch.Generator().manual_seed(sampler.seed)
        self._batches = _SkippingSampler(sampler)
        super().__init__(
            dataset,
            batch_size=None,
            sampler=self._batches,
            num_workers=workers,
            generator=generator,
            persistent_workers=workers > 0,
        )
        self._position = 0
        self._resume_at = 0

    @property
    def samples_per_batch(self) -> int:
        """Samples per batch of this rank."""
        return self._batches.batches.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch whose order comes next."""
        self._batches.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A checkpoint at the end of an epoch continues with a whole one, and so does an epoch after one left early.
        self._position = self._resume_at % max(len(self), 1)
        self._resume_at = 0
        self._batches.start = self._position
        for batch in super().__iter__():
            self._position += 1
            yield batch
        self._position = 0

    def state_dict(self) -> dict[str, int]:
        """The number of batches handed out in this epoch."""
        return {"position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next epoch starts at the saved position."""
        self._position = self._resume_at = int(state["position"])


class _SkippingSampler(Sampler[list[int]]):
    """Leaves out the first batches of one pass; its length stays that of a whole epoch, which Lightning counts on."""

    def __init__(self, sampler: EpochBatchSampler) -> None:
        self.batches = sampler
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        for position, batch in enumerate(self.batches):
            if position >= start:
                yield batch


def draw_shares(counts: Sequence[int], wanted: Sequence[int], generator: torch.Generator) -> Tensor:
    """Numbers of the samples of an epoch in random order: (sum of ``wanted``,), one data set's behind the other's.

    More than there are repeats samples, fewer takes a part, a new one with every epoch.

    Args:
        counts: samples of each data set.
        wanted: samples of each that the epoch holds.
        generator: decides.
    """
    chosen, begin = [], 0
    for count, number in zip(counts, wanted, strict=True):
        if number:
            turns = [torch.randperm(count, generator=generator) for _ in range(-(-number // count))]
            chosen.append(begin + torch.cat(turns)[:number])
        begin += count
    if len(chosen) == 1:
        return chosen[0]
    everything = torch.cat(chosen)
    return everything[torch.randperm(len(everything), generator=generator)]
