"""Users' sequences and the part of the split that every interaction belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from datamodules.histories import Histories
from dig.config import UserError
from dig.engine.artifacts import read_json, write_json

__all__ = [
    "TEST",
    "TRAIN",
    "VALID",
    "HeldOut",
    "Sequences",
    "global_time_parts",
    "leading_items",
    "leave_one_out_parts",
    "label_slices",
]


TRAIN, VALID, TEST = 0, 1, 2
"""Values of ``Sequences.parts``; within a user they never fall."""
_CALENDAR = (473_385_600, 4_102_444_800)  # 1985 and 2100, in seconds
_PARTS = {"train": TRAIN, "valid": VALID, "test": TEST}


@dataclass(frozen=True)
class HeldOut:
    """Prediction problems: what a user had bought, and what came next.

    Attributes:
        users: (examples,) rows of the users.
        histories: (examples,) everything that came before, held-out items of earlier examples included.
        targets: (examples,) int64 catalogue rows.
    """

    users: np.ndarray
    histories: Histories
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def take(self, index: np.ndarray) -> HeldOut:
        """The examples at the given positions."""
        return HeldOut(self.users[index], self.histories.take(index), self.targets[index])

    def sample(self, count: int | None, seed: int) -> np.ndarray:
        """Positions of a fixed random subset in their order, or of all."""
        if count is None or count >= len(self):
            return np.arange(len(self))
        return np.sort(np.random.default_rng(seed).choice(len(self), size=count, replace=False))


@dataclass(frozen=True)
class Sequences:
    """Chronological sequences of catalogue rows under a split.

    Attributes:
        user_ids: (users,) strings, in order of first appearance.
        items: (interactions,) int32 catalogue rows, user after user, oldest first.
        offsets: (users + 1,) int64; user u has ``items[offsets[u]:offsets[u + 1]]``.
        parts: (interactions,) uint8, TRAIN, VALID or TEST.
        split: the split's name.
    """

    user_ids: pl.Series
    items: np.ndarray
    offsets: np.ndarray
    parts: np.ndarray
    split: str

    @classmethod
    def from_lists(cls, user_ids: Sequence[str], rows: Sequence[Sequence[int] | np.ndarray]) -> Sequences:
        """Separate sequences under leave-one-out."""
        histories = Histories.from_lists(rows)
        offsets = np.append(histories.starts, len(histories.items))
        parts = leave_one_out_parts(offsets)
        return cls(pl.Series("user_id", user_ids, pl.String), histories.items, offsets, parts, "leave-one-out")

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def rows(self) -> Histories:
        """(users,) whole sequences, held-out items included."""
        return Histories(self.items, self.offsets[:-1], self.offsets[1:])

    @cached_property
    def train(self) -> Histories:
        """(users,) the training part: every sequence up to its first held-out item, possibly empty."""
        before = np.append(0, np.cumsum(self.parts == TRAIN, dtype=np.int64))
        starts = self.offsets[:-1]
        return Histories(self.items, starts, starts + before[self.offsets[1:]] - before[starts])

    def held_out(self, part: str) -> HeldOut:
        """The examples of ``valid`` or ``test``, in the users' order; an item without a history before it is none.

        Raises:
            UserError: if there are none.
        """
        positions = np.flatnonzero(self.parts == _PARTS[part])
        users = np.searchsorted(self.offsets, positions, side="right") - 1
        has_history = positions > self.offsets[users]
        positions, users = positions[has_history], users[has_history]
        if not len(users):
            raise UserError(f"the split {self.split} leaves no example for {part}; see data.split")
        histories = Histories(self.items, self.offsets[users], positions)
        return HeldOut(users, histories, self.items[positions].astype(np.int64))

    def save(self, folder: Path) -> None:
        """Writes users.parquet, and arrays that :meth:`load` maps into memory."""
        folder.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"user_id": self.user_ids}).write_parquet(folder / "users.parquet")
        for name in ("items", "offsets", "parts"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        write_json(folder / "split.json", {"split": self.split})

    @classmethod
    def load(cls, folder: Path) -> Sequences:
        """Opens what :meth:`save` wrote; the arrays stay on disk until they are touched."""
        arrays = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("items", "offsets", "parts")
        )
        users = pl.read_parquet(folder / "users.parquet", glob=False)["user_id"]
        return cls(users, next(arrays), next(arrays), next(arrays), str(read_json(folder / "split.json")["split"]))


def leading_items(sequences: Sequences, *slices: Histories) -> Histories:
    """(users,) each user's items up to the last one that any of the slices holds; a slice lies within one user."""
    starts = sequences.offsets[:-1]
    ends = starts.copy()
    for histories in slices:
        held = histories.lengths > 0
        users = np.searchsorted(sequences.offsets, histories.starts[held], side="right") - 1
        np.maximum.at(ends, users, histories.ends[held])
    return Histories(sequences.items, starts, ends)


def leave_one_out_parts(offsets: np.ndarray) -> np.ndarray:
    """Each user's last item is the test, the last but one the validation.

    Args:
        offsets: (users + 1,); a user with one item has a test alone.

    Returns:
        (interactions,) uint8.
    """
    parts = np.full(offsets[-1], TRAIN, dtype=np.uint8)
    lengths = np.diff(offsets)
    parts[offsets[1:][lengths >= 2] - 2] = VALID
    parts[offsets[1:][lengths >= 1] - 1] = TEST
    return parts


def global_time_parts(
    offsets: np.ndarray, times: np.ndarray, fractions: Sequence[float], moments: tuple[float, float] | None = None
) -> np.ndarray:
    """Everybody is cut at the same two moments, so that no training example is younger than a held-out one.

    The moments are quantiles of the times of all examples, that is of all interactions but each user's first
    (MiniOneRec's 8:1:1, arXiv 2510.24431). What happened at a cutting moment itself belongs to the later part, so ties
    never straddle a cut and a part's share may differ a little from what was asked.

    Args:
        offsets: (users + 1,).
        times: (interactions,) in any unit, not falling within a user.
        fractions: shares of train, validation and test.
        moments: where validation and where the test begins, in place of quantiles (``data.split_times``).

    Returns:
        (interactions,) uint8.

    Raises:
        UserError: if the times cannot be compared between users, if a part would be empty, or if a moment lies outside
            of the data.
    """
    first = offsets[:-1][np.diff(offsets) > 0]
    if len(first) > 1 and np.ptp(times[first]) == 0:
        raise UserError(
            f"data.split=global-time: every user starts at timestamp {times[first[0]]:g}, so the times count from each "
            "user's own start and cannot be compared; use data.split=leave-one-out"
        )
    example = np.ones(len(times), dtype=bool)
    example[first] = False
    ordered = np.sort(times[example])
    if not len(ordered):
        raise UserError("data.split=global-time: no user has two interactions")
    if moments is not None:
        _check_moments(moments, float(times.min()), float(times.max()))
    cuts = moments or [ordered[min(int(share * len(ordered)), len(ordered) - 1)] for share in np.cumsum(fractions)[:2]]
    parts = np.searchsorted(cuts, times, side="right").astype(np.uint8)
    counts = np.bincount(parts[example], minlength=3)
    if not counts.all():
        empty = ("train", "validation", "test")[int(np.argmin(counts))]
        why = "see data.split_times" if moments else "too many interactions share a time, see data.split_fractions"
        raise UserError(
            f"data.split=global-time: cut at {_shown(cuts[0])} and {_shown(cuts[1])}, the {empty} part is empty; {why}"
        )
    return parts


def _check_moments(moments: tuple[float, float], first: float, last: float) -> None:
    for name, moment in zip(("validation", "test"), moments, strict=True):
        if not first < moment <= last:
            raise UserError(
                f"data.split_times: the {name} would begin at {_shown(moment)}, and the data reach from "
                f"{_shown(first)} to {_shown(last)}"
            )


def _shown(moment: float) -> str:
    """A time for people: seconds, and the date where they are those of a calendar."""
    if not _CALENDAR[0] <= moment <= _CALENDAR[1]:
        return f"{moment:g}"
    return f"{moment:.0f} ({datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M})"


_RARE = 5
_LENGTHS = (1, 5, 10, 20)


def label_slices(sequences: Sequences, num_items: int) -> pl.DataFrame:
    """A row per example of validation and test, in the order of :meth:`Sequences.held_out`.

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
