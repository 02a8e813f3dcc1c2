"""Rows of different lengths in one flat array."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Ragged", "spread"]


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
        kept = [np.asarray(row, dtype=np.int64) for row in rows]
        values = np.concatenate(kept) if kept else np.zeros(0, np.int64)
        return cls.from_lengths(values, np.array([len(row) for row in kept], dtype=np.int64))

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
