"""The guard of held-out items: what derives from histories says what it saw, and is refused if that is too much."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from datamodules.histories import Histories
from datamodules.splits import Sequences
from dig.config import UserError
from dig.engine.console import warn

__all__ = ["SEEN_FILE", "Leaks", "find_leaks", "guard", "guard_artifact", "write_items_seen"]

SEEN_FILE = "items_seen.parquet"
"""Where an artifact keeps the items it saw: ``user_id``, ``items_seen``."""


@dataclass(frozen=True)
class Leaks:
    """Users whose held-out items were seen.

    Attributes:
        test: users with a test item among what was seen.
        valid: further users with a validation item.
        clean_users: users that were seen without a held-out item.
        leaked: (rows,) bool, the rows of the table of what was seen that hold such an item.
    """

    test: int
    valid: int
    clean_users: int
    leaked: np.ndarray


def find_leaks(seen: pl.DataFrame, sequences: Sequences, item_ids: pl.Series) -> Leaks:
    """Looks for held-out items among what was seen of each user.

    An item that a user also has in the training part leaks only if it was seen more often than it stands there. Users
    and items that the data lack cannot leak.

    Args:
        seen: ``user_id`` and ``items_seen`` (list of item ids); a user may have several rows.
        sequences: the split.
        item_ids: the catalogue's ids in order.
    """
    users = pl.DataFrame({"user_id": sequences.user_ids}).with_row_index("user")
    items = pl.DataFrame({"item_id": item_ids}).with_row_index("item")
    counts = (
        seen.select("user_id", pl.col("items_seen").cast(pl.List(pl.String)).alias("item_id"))
        .with_row_index("row")
        .explode("item_id")
        .join(users, on="user_id")
        .join(items, on="item_id")
        .group_by("row", "user", "item")
        .agg(pl.len().alias("times"))
    )
    trained = (
        _pairs(sequences.train.owners(), sequences.train.flat()).group_by("user", "item").agg(pl.len().alias("trained"))
    )
    rows = {}
    for part in ("test", "valid"):
        held_out = sequences.held_out(part)
        targets = _pairs(held_out.users, held_out.targets).unique().join(trained, on=["user", "item"], how="left")
        leaking = counts.join(targets, on=["user", "item"]).filter(pl.col("times") > pl.col("trained").fill_null(0))
        rows[part] = leaking["row"].unique()
    leaked = np.zeros(len(seen), dtype=bool)
    leaked[pl.concat([rows["test"], rows["valid"]]).to_numpy()] = True
    ids = seen["user_id"]
    test = ids.gather(rows["test"]).unique()
    either = ids.filter(pl.Series(leaked)).unique()
    return Leaks(len(test), len(either) - len(test), ids.n_unique() - len(either), leaked)


def guard(name: str, seen: pl.DataFrame, sequences: Sequences, item_ids: pl.Series, policy: str) -> np.ndarray:
    """Which rows may be used: all when nothing leaked, those of clean users under ``drop``.

    Args:
        name: what is guarded, for the message.
        seen: as in :func:`find_leaks`.
        sequences: the split.
        item_ids: the catalogue's ids in order.
        policy: ``refuse`` or ``drop`` (``data.leaks``).

    Returns:
        (rows,) bool.

    Raises:
        UserError: under ``refuse``, with the number of users who leaked, or if nobody is clean.
    """
    leaks = find_leaks(seen, sequences, item_ids)
    if not leaks.leaked.any():
        return ~leaks.leaked
    line = (
        f"{name} saw held-out items: the test items of {leaks.test:,} users, the validation items of "
        f"{leaks.valid:,} more"
    )
    if policy == "refuse":
        raise UserError(
            f"{line}; what is learned from it would be tested on what it has seen. data.leaks=drop keeps "
            f"the {leaks.clean_users:,} clean users"
        )
    if not leaks.clean_users:
        raise UserError(f"{line}; no user is clean")
    leaked_users = seen["user_id"].filter(pl.Series(leaks.leaked)).unique()
    warn(f"{line}; they are left out (data.leaks=drop), {leaks.clean_users:,} clean users are kept")
    return ~seen["user_id"].is_in(leaked_users.implode()).to_numpy()


def write_items_seen(folder: Path, sequences: Sequences, seen: Histories, item_ids: pl.Series) -> None:
    """Records in an artifact's folder what it saw of each user.

    Args:
        folder: the artifact's.
        sequences: whose users these are.
        seen: (users,) catalogue rows.
        item_ids: the catalogue's ids in order.
    """
    ids = item_ids.gather(seen.flat())
    lists = (
        pl.DataFrame({"user": seen.owners(), "items_seen": ids})
        .group_by("user", maintain_order=True)
        .agg(pl.col("items_seen"))
    )
    users = sequences.user_ids.gather(lists["user"])
    pl.DataFrame({"user_id": users, "items_seen": lists["items_seen"]}).write_parquet(folder / SEEN_FILE)


def guard_artifact(name: str, folder: Path, sequences: Sequences, item_ids: pl.Series) -> None:
    """Refuses an artifact that saw a held-out item, or that does not say what it saw.

    Raises:
        UserError: naming the artifact and the number of users.
    """
    path = folder / SEEN_FILE
    if not path.is_file():
        raise UserError(
            f"{name} does not record which items it saw ({SEEN_FILE}), so held-out items cannot be ruled out"
        )
    guard(name, pl.read_parquet(path, glob=False), sequences, item_ids, "refuse")


def _pairs(users: np.ndarray, items: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"user": users, "item": items}).cast(pl.UInt32)
