"""Many histories as slices of one flat array: no Python object a user, and cheap to memory-map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

__all__ = ["Histories"]


@dataclass(frozen=True)
class Histories(Sequence[np.ndarray]):
    """Slices of one array; each is an int array of catalogue rows, oldest first.

    Attributes:
        items: the flat array, possibly memory-mapped.
        starts: (histories,) int64.
        ends: (histories,) int64, exclusive.
    """

    items: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def from_lists(cls, histories: Iterable[Sequence[int] | np.ndarray]) -> Histories:
        """Copies separate histories into one flat array."""
        rows = [np.asarray(history, dtype=np.int32) for history in histories]
        ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
        starts = ends - np.array([len(row) for row in rows], dtype=np.int64)
        return cls(np.concatenate(rows) if rows else np.zeros(0, np.int32), starts, ends)

    @property
    def lengths(self) -> np.ndarray:
        """(histories,) int64."""
        return self.ends - self.starts

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Histories: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Histories:
        if isinstance(index, slice):
            return self.take(index)
        return self.items[self.starts[index] : self.ends[index]]

    def __iter__(self) -> Iterator[np.ndarray]:
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield self.items[start:end]

    def take(self, index: Sequence[int] | np.ndarray | slice) -> Histories:
        """Those at the given positions, without copying items."""
        return Histories(self.items, self.starts[index], self.ends[index])

    def latest(self, longest: int | np.ndarray) -> Histories:
        """The last ``longest`` items of each, or so many of each."""
        return Histories(self.items, np.maximum(self.starts, self.ends - longest), self.ends)

    def flat(self) -> np.ndarray:
        """All items of all histories, one after the other."""
        lengths = self.lengths
        first = np.cumsum(lengths) - lengths
        return self.items[np.arange(int(lengths.sum())) + np.repeat(self.starts - first, lengths)]

    def owners(self) -> np.ndarray:
        """The history that each item of :meth:`flat` belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def padded(self, longest: int) -> np.ndarray:
        """(histories, longest) int64, each history's latest items at the right end, -1 before its start."""
        index = self.ends[:, None] + np.arange(-longest, 0)
        inside = index >= self.starts[:, None]
        if not self.items.size:
            return np.full(index.shape, -1, dtype=np.int64)
        return np.where(inside, self.items[np.where(inside, index, 0)].astype(np.int64), -1)
