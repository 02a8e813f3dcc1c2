"""Many histories in one flat array, cheap to memory-map, and the windows that training cuts from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

__all__ = [
    "Histories",
    "Ragged",
    "spread",
    "Windows",
    "answer_windows",
    "compact_windows",
    "latest_windows",
]


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
        """The last ``longest`` items of each, or this many of each."""
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


@dataclass(frozen=True)
class Ragged:
    """Rows of integers.

    Attributes:
        values: all rows, one after the other.
        offsets: (rows + 1,) int64; row r is ``values[offsets[r]:offsets[r + 1]]``.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lists(cls, rows: Iterable[Sequence[int]]) -> Ragged:
        """Copies separate rows."""
        arrays = [np.asarray(row, dtype=np.int64) for row in rows]
        values = np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
        return cls.from_lengths(values, np.array([len(row) for row in arrays], dtype=np.int64))

    @classmethod
    def from_lengths(cls, values: np.ndarray, lengths: np.ndarray) -> Ragged:
        """Cuts a flat array into rows."""
        return cls(values, np.append(0, np.cumsum(lengths, dtype=np.int64)))

    @classmethod
    def from_padded(cls, rows: np.ndarray) -> Ragged:
        """The values of each row of a matrix that are not negative."""
        real = rows >= 0
        return cls.from_lengths(rows[real], real.sum(axis=1))

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) int64."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: np.ndarray) -> Ragged:
        """The given rows, copied."""
        lengths = self.lengths[rows]
        return Ragged.from_lengths(self.values[np.repeat(self.offsets[rows], lengths) + spread(lengths)], lengths)

    def cut(self, longest: int | np.ndarray) -> Ragged:
        """The first ``longest`` values of each row."""
        lengths = np.minimum(self.lengths, longest)
        return Ragged.from_lengths(self.values[np.repeat(self.offsets[:-1], lengths) + spread(lengths)], lengths)

    def grouped(self, counts: np.ndarray) -> Ragged:
        """Joins ``counts[0]`` rows to one, then ``counts[1]``, and so on."""
        return Ragged(self.values, self.offsets[np.append(0, np.cumsum(counts, dtype=np.int64))])

    @staticmethod
    def joined(*parts: Ragged) -> Ragged:
        """Row r of the first part, then row r of the second, and so on."""
        lengths = np.stack([part.lengths for part in parts])
        offsets = np.append(0, np.cumsum(lengths.sum(axis=0), dtype=np.int64))
        values = np.empty(offsets[-1], dtype=np.int64)
        begins = offsets[:-1] + np.cumsum(lengths, axis=0) - lengths
        for part, begin in zip(parts, begins, strict=True):
            values[np.repeat(begin, part.lengths) + spread(part.lengths)] = part.values[
                part.offsets[0] : part.offsets[-1]
            ]
        return Ragged(values, offsets)


def spread(lengths: np.ndarray) -> np.ndarray:
    """0, 1, … within each row of the given lengths: (sum of lengths,)."""
    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True)
class Windows:
    """Slices of the training part.

    Attributes:
        histories: (windows,) items, targets included.
        supervised: (windows,) int64, how many items at the end of each are targets.
    """

    histories: Histories
    supervised: np.ndarray

    def __len__(self) -> int:
        return len(self.supervised)


def compact_windows(train: Histories, max_history: int) -> Windows:
    """All targets of a window are learned in one pass.

    A sequence longer than ``max_history + 1`` is cut into windows that overlap by half; only the items that no earlier
    window has taught are targets.
    """
    size = max_history + 1
    step = max(size // 2, 1)
    lengths = train.lengths
    extra = -(-np.maximum(lengths - size, 0) // step)
    user, turn = _turns(np.where(lengths >= 2, 1 + extra, 0))
    ends = np.minimum(size + turn * step, lengths[user])
    taught = np.where(turn == 0, 1, size + (turn - 1) * step)
    return _windows(train, user, np.maximum(ends - size, 0), ends, ends - taught)


def answer_windows(train: Histories, max_history: int) -> Windows:
    """Every target has a window of its own: at most ``max_history`` items and the one that came next."""
    user, turn = _turns(np.maximum(train.lengths - 1, 0))
    ends = turn + 2
    return _windows(train, user, np.maximum(ends - 1 - max_history, 0), ends, np.ones_like(ends))


def latest_windows(train: Histories, max_history: int, per_user: int) -> Windows:
    """The answer windows of each user's latest ``per_user`` items."""
    lengths = train.lengths
    counts = np.minimum(np.maximum(lengths - 1, 0), per_user)
    user, turn = _turns(counts)
    ends = lengths[user] - counts[user] + turn + 1
    return _windows(train, user, np.maximum(ends - 1 - max_history, 0), ends, np.ones_like(ends))


def _turns(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``counts[u]`` windows of user u: u and the number of the window."""
    user = np.repeat(np.arange(len(counts)), counts)
    return user, np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)


def _windows(
    train: Histories, user: np.ndarray, starts: np.ndarray, ends: np.ndarray, supervised: np.ndarray
) -> Windows:
    base = train.starts[user]
    return Windows(Histories(train.items, base + starts, base + ends), supervised.astype(np.int64))
