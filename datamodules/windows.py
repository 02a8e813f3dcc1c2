"""The training part cut into windows, so that every item but a user's first is a target exactly once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datamodules.histories import Histories

__all__ = ["Windows", "answer_windows", "compact_windows", "latest_windows"]


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
