"""Several tasks in one epoch: so much of each, in one shuffled order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.loading import draw_shares
from datamodules.packing import Samples, TrainingTokens, collate
from datamodules.ragged import Ragged
from datamodules.tokens import TokenArrays

__all__ = ["TaskMixture", "TaskPart"]


@dataclass(frozen=True)
class TaskPart:
    """A task of a mixture.

    Attributes:
        arrays: its samples.
        weight: factor on their loss.
        share: how often an epoch holds each sample, on average.
    """

    arrays: TokenArrays
    weight: float = 1.0
    share: float = 1.0


class TaskMixture(Dataset[TrainingTokens]):
    """The samples of all tasks, one task's after the other's; indexed by lists, which gives a batch.

    Args:
        parts: the tasks.
        pack: lay several samples side by side in a row, so that little of a batch is padding.

    Raises:
        ValueError: there is no sample at all.
    """

    def __init__(self, parts: list[TaskPart], pack: bool = False) -> None:
        self.parts = parts
        self.pack = pack
        self.begins = np.append(0, np.cumsum([len(part.arrays) for part in parts], dtype=np.int64))
        if not self.begins[-1]:
            raise ValueError("the training part holds no sample: every user has fewer than two items in it")

    def __len__(self) -> int:
        return int(self.begins[-1])

    @property
    def lengths(self) -> np.ndarray:
        """(samples,) tokens of each."""
        return np.concatenate([part.arrays.lengths for part in self.parts])

    @property
    def drawn(self) -> list[int]:
        """Samples of each task in an epoch."""
        return [round(part.share * len(part.arrays)) for part in self.parts]

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """The samples of an epoch in random order: (sum of ``drawn``,).

        A share above 1 repeats samples, one below takes a part, a new one with every epoch.
        """
        return draw_shares([len(part.arrays) for part in self.parts], self.drawn, generator)

    def __getitem__(self, index: list[int]) -> TrainingTokens:
        numbers = np.asarray(index)
        owner = np.searchsorted(self.begins, numbers, side="right") - 1
        found, weights, order = [], np.empty(len(numbers)), []
        for number in np.unique(owner):
            part, mine = self.parts[number], np.flatnonzero(owner == number)
            found.append(part.arrays.take(numbers[mine] - self.begins[number]))
            weights[mine] = part.weight
            order.append(mine)
        samples = found[0] if len(found) == 1 else _merged(found, np.argsort(np.concatenate(order), kind="stable"))
        return collate(samples, numbers, weights, self.parts[0].arrays.pad_id, self.pack)


def _merged(found: list[Samples], order: np.ndarray) -> Samples:
    """All samples, brought into the given order."""
    tokens = Ragged.from_lengths(
        np.concatenate([part.tokens.values for part in found]), np.concatenate([part.tokens.lengths for part in found])
    )
    supervised, responses = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("supervised", "responses")
    )
    return Samples(tokens.take(order), supervised[order], responses[order])
