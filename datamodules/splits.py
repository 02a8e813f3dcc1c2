"""Users' sequences and the leave-one-out split: the last item is the test, the last but one the validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from dig.config import UserError
from dig.console import warn

__all__ = ["Sequences", "build_sequences"]

Rows = np.ndarray


@dataclass(frozen=True)
class Sequences:
    """Chronological sequences of catalogue rows under leave-one-out.

    Attributes:
        user_ids: users in order of first appearance.
        rows: (users,) of int64 arrays, each a user's items as rows of the catalogue, oldest first.
    """

    user_ids: list[str]
    rows: list[Rows]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def train(self) -> list[Rows]:
        """The training part: every sequence without its two held-out items."""
        return [rows[:-2] for rows in self.rows]

    def histories(self, split: str) -> list[Rows]:
        """What is known before the held-out item of ``valid`` or ``test``."""
        return [rows[: _cut(split)] for rows in self.rows]

    def targets(self, split: str) -> Rows:
        """(users,) the held-out item of ``valid`` or ``test``."""
        return np.array([rows[_cut(split)] for rows in self.rows], dtype=np.int64)

    def sample_users(self, count: int | None, seed: int) -> Rows:
        """Positions of a fixed random subset of users in their order, or of all."""
        if count is None or count >= len(self):
            return np.arange(len(self))
        return np.sort(np.random.default_rng(seed).choice(len(self), size=count, replace=False))

    def save(self, path: Path) -> None:
        """Writes Parquet: user_id, item_rows."""
        frame = pl.DataFrame({"user_id": self.user_ids, "item_rows": [rows.tolist() for rows in self.rows]})
        frame.with_columns(pl.col("item_rows").cast(pl.List(pl.Int64))).write_parquet(path)

    @classmethod
    def load(cls, path: Path) -> Sequences:
        """Reads what :meth:`save` wrote."""
        frame = pl.read_parquet(path)
        lengths = frame["item_rows"].list.len().to_numpy()
        flat = frame["item_rows"].explode().to_numpy()
        return cls(frame["user_id"].to_list(), np.split(flat, np.cumsum(lengths)[:-1]))


def build_sequences(
    interactions: pl.DataFrame, item_ids: pl.Series, min_interactions: int
) -> tuple[Sequences, dict[str, int]]:
    """Groups interactions by user, in time, ties in row order.

    Args:
        interactions: user_id, item_id, timestamp.
        item_ids: the catalogue's ids in order.
        min_interactions: users with fewer are dropped, which is counted and said.

    Returns:
        The sequences, and counts of what was dropped and of ties in time.

    Raises:
        UserError: if no user is left.
    """
    catalogue = pl.DataFrame({"item_id": item_ids}).with_row_index("item_row")
    grouped = (
        interactions.join(catalogue, on="item_id", how="left", maintain_order="left")
        .group_by("user_id", maintain_order=True)
        .agg(
            pl.col("item_row").cast(pl.Int64).sort_by("timestamp", maintain_order=True),
            pl.col("timestamp").sort().tail(2).alias("last_times"),
        )
    )
    lengths = grouped["item_row"].list.len()
    kept = grouped.filter(lengths >= min_interactions)
    short = len(grouped) - len(kept)
    if short:
        lost = int(lengths.filter(lengths < min_interactions).sum())
        warn(f"{short} of {len(grouped)} users have fewer than {min_interactions} interactions; "
             f"they and their {lost} interactions are left out")  # fmt: skip
    if kept.is_empty():
        raise UserError(f"no user has {min_interactions} interactions, which data.min_interactions asks for")
    ties = int((kept["last_times"].list.get(0) == kept["last_times"].list.get(1)).sum())
    counts = kept["item_row"].list.len().to_numpy()
    rows = np.split(kept["item_row"].explode().to_numpy(), np.cumsum(counts)[:-1])
    return Sequences(kept["user_id"].to_list(), rows), {"dropped_users": short, "tied_last_pairs": ties}


def _cut(split: str) -> int:
    return {"valid": -2, "test": -1}[split]
