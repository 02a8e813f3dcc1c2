"""From a source's tables to a catalogue and sequences: filters and the split, with a count of everything left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from datamodules.sources.base import Tables
from datamodules.splits import Sequences, global_time_parts, label_slices, leave_one_out_parts
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.engine.console import warn

__all__ = [
    "Prepared",
    "prepare",
    "CoreReport",
    "k_core",
    "kept_of_duplicates",
]


_DAY = 86_400  # seconds


@dataclass(frozen=True)
class Prepared:
    """Data ready for every later stage.

    Attributes:
        catalogue: one row per item; ``Sequences.items`` are its rows.
        sequences: users' sequences under the split.
        statistics: counts of what is there and of what was left out, why.
        slices: what :func:`datamodules.splits.label_slices` says of each held-out example.
    """

    catalogue: pl.DataFrame
    sequences: Sequences
    statistics: dict[str, Any]
    slices: pl.DataFrame


@dataclass
class _Log:
    """Interactions on their way, as codes; sorted by user, then time, ties in row order.

    ``times`` are whole numbers where seconds do not tell all apart.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    seconds: np.ndarray
    parts: np.ndarray | None

    def keep(self, mask: np.ndarray) -> None:
        if mask.all():
            return
        self.users, self.items = self.users[mask], self.items[mask]
        self.times, self.seconds = self.times[mask], self.seconds[mask]
        if self.parts is not None:
            self.parts = self.parts[mask]


def prepare(tables: Tables, config: DataConfig) -> Prepared:
    """Filters, orders and splits.

    Users stand in the order of their first appearance in the table, their items in time, ties in row order.

    Raises:
        UserError: if nothing is left, or if the split does not fit the data.
    """
    read = len(tables.interactions)
    user_ids, log = _encoded(tables)
    duplicates = _drop_duplicates(log, config)
    core = _apply_core(log, config)
    short = _drop_short(log, config)
    if not len(log.users):
        raise UserError(
            f"no user is left: data.k_core={config.k_core}, data.min_interactions={config.min_interactions}"
        )
    catalogue, items = _final_catalogue(tables.catalogue, log.items, config)
    counts = np.bincount(log.users)
    kept_users = np.flatnonzero(counts)
    offsets = np.append(0, np.cumsum(counts[kept_users], dtype=np.int64))
    sequences = Sequences(
        user_ids.gather(kept_users), items.astype(np.int32), offsets, _parts(log, offsets, config), config.split
    )
    slices = label_slices(sequences, len(catalogue))
    statistics = {
        **_sizes(sequences, len(catalogue)),
        "split": config.split,
        "examples": {part: len(sequences.held_out(part)) for part in ("valid", "test")},
        "rows_read": read,
        "bad_rows": tables.bad_rows,
        "duplicates": {"policy": config.duplicates, **duplicates},
        "k_core": {"k": config.k_core, **asdict(core)},
        "short_users": short,
        **_ties(log.times, log.seconds, offsets),
    }
    return Prepared(catalogue, sequences, statistics, slices)


def _encoded(tables: Tables) -> tuple[pl.Series, _Log]:
    """User ids in order of first appearance, and the interactions as codes in order."""
    frame = tables.interactions
    user_ids = frame["user_id"].unique(maintain_order=True)
    users, items = _codes(frame["user_id"], user_ids), _codes(frame["item_id"], tables.catalogue["item_id"])
    seconds = frame["timestamp"].to_numpy()
    times = frame["ticks"].to_numpy() if "ticks" in frame.columns else seconds
    order = _chronological(users, times)
    parts = frame["part"].to_numpy()[order] if "part" in frame.columns else None
    log = _Log(users[order], items[order], times[order], seconds[order], parts)
    return user_ids, log


def _chronological(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The order by user, then time, ties in row order."""
    keys = {"user": users, "time": times}
    if len(times) and (times % 1 == 0).all():
        since = times - times.min()
        if float(users.max() + 1) * (since.max() + 1) < 2**62:
            # Whole seconds: one integer key sorts several times faster than two.
            keys = {"key": users.astype(np.int64) * int(since.max() + 1) + since.astype(np.int64)}
    return pl.DataFrame(keys).select(pl.arg_sort_by(*keys, maintain_order=True)).to_series().to_numpy()


def _codes(values: pl.Series, known: pl.Series) -> np.ndarray:
    """(values,) the row of each value in ``known``."""
    lookup = pl.DataFrame({"id": known}).with_row_index("row")
    joined = pl.DataFrame({"id": values}).join(lookup, on="id", how="left", maintain_order="left")
    return joined["row"].to_numpy()


def _drop_duplicates(log: _Log, config: DataConfig) -> dict[str, int]:
    """Applies ``data.duplicates``; counts repeated items whatever the policy."""
    items = int(log.items.max()) + 1 if len(log.items) else 1
    repeated = len(log.users) - pl.Series(log.users.astype(np.int64) * items + log.items).n_unique()
    mask = kept_of_duplicates(log.users, log.items, log.times, config.duplicates)
    dropped = int((~mask).sum())
    if dropped:
        warn(f"{dropped:,} repeated interactions are left out (data.duplicates={config.duplicates})")
    log.keep(mask)
    return {"repeated": repeated, "dropped": dropped}


def _apply_core(log: _Log, config: DataConfig) -> CoreReport:
    if config.k_core < 2:
        return CoreReport(0, 0, 0, 0)
    mask, report = k_core(log.users, log.items, config.k_core)
    if report.interactions:
        warn(
            f"{config.k_core}-core: {report.users:,} users, {report.items:,} items and {report.interactions:,} "
            f"interactions are left out, in {report.rounds} rounds"
        )
    log.keep(mask)
    return report


def _drop_short(log: _Log, config: DataConfig) -> int:
    """Leaves out users with too few interactions and returns their number."""
    counts = np.bincount(log.users) if len(log.users) else np.zeros(0, np.int64)
    mask = counts[log.users] >= config.min_interactions
    present = counts > 0
    short = int((present & (counts < config.min_interactions)).sum())
    if short:
        warn(
            f"{short:,} of {int(present.sum()):,} users have fewer than {config.min_interactions} interactions "
            f"(data.min_interactions); they and their {int((~mask).sum()):,} interactions are left out"
        )
    if short and not mask.any():
        raise UserError(f"no user has {config.min_interactions} interactions, which data.min_interactions asks for")
    log.keep(mask)
    return short


def _final_catalogue(catalogue: pl.DataFrame, items: np.ndarray, config: DataConfig) -> tuple[pl.DataFrame, np.ndarray]:
    """The catalogue that is ranked, and the items as its rows; a k-core leaves no item without interactions."""
    if config.catalogue == "all" and config.k_core < 2:
        return catalogue, items
    mask = np.bincount(items, minlength=len(catalogue)) > 0
    if not mask.all():
        warn(f"{int((~mask).sum()):,} of {len(catalogue):,} items have no interaction left and leave the catalogue")
    return catalogue.filter(mask), (np.cumsum(mask) - 1)[items]


def _parts(log: _Log, offsets: np.ndarray, config: DataConfig) -> np.ndarray:
    if config.split == "leave-one-out":
        return leave_one_out_parts(offsets)
    if config.split == "global-time":
        return global_time_parts(offsets, log.times, config.split_fractions, config.cuts)
    if log.parts is None:
        raise UserError(f"data.split=published, but data.source={config.source} at {config.path} comes without a split")
    falls = (np.diff(log.parts.astype(np.int8)) < 0) & (np.diff(log.users) == 0)
    if falls.any():
        raise UserError(
            f"data.split=published: {int(falls.sum())} interactions of the training part are younger than "
            "held-out ones of the same user"
        )
    return log.parts.astype(np.uint8)


def _sizes(sequences: Sequences, items: int) -> dict[str, Any]:
    users, interactions = len(sequences), len(sequences.items)
    return {
        "users": users,
        "items": items,
        "interactions": interactions,
        "mean_length": round(interactions / users, 3),
        "density": interactions / (users * items),
    }


def _ties(times: np.ndarray, seconds: np.ndarray, offsets: np.ndarray) -> dict[str, int]:
    """How often time alone does not say what came first; row order decides there."""
    lengths = np.diff(offsets)
    within = np.ones(max(len(times) - 1, 0), dtype=bool)
    within[offsets[1:-1] - 1] = False
    last = offsets[1:][lengths >= 2]
    return {
        "tied_pairs": int(((times[1:] == times[:-1]) & within).sum()),
        "tied_last_pairs": int((times[last - 1] == times[last - 2]).sum()),
        "same_day_last_pairs": int((seconds[last - 1] // _DAY == seconds[last - 2] // _DAY).sum()),
    }


@dataclass(frozen=True)
class CoreReport:
    """What a k-core left out.

    Attributes:
        rounds: passes until nothing changed, the last one included.
        users: users left out.
        items: items left out that had interactions.
        interactions: interactions left out.
    """

    rounds: int
    users: int
    items: int
    interactions: int


def kept_of_duplicates(users: np.ndarray, items: np.ndarray, times: np.ndarray, policy: str) -> np.ndarray:
    """Marks what a policy on repeated items keeps.

    Args:
        users: (interactions,) codes.
        items: (interactions,) codes.
        times: (interactions,) ordered within a user.
        policy: ``keep`` all, ``first`` or ``last`` of a user's equal items, ``exact``: one of equal user, item, time.

    Returns:
        (interactions,) bool.
    """
    mask = np.ones(len(users), dtype=bool)
    if policy == "keep" or not len(users):
        return mask
    keys = (items, users) if policy != "exact" else (times, items, users)
    order = np.lexsort(keys)  # stable: equal keys stay in the order of time
    repeated = np.ones(len(order) - 1, dtype=bool)
    for key in keys:
        repeated &= key[order][1:] == key[order][:-1]
    mask[order[:-1][repeated] if policy == "last" else order[1:][repeated]] = False
    return mask


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, CoreReport]:
    """The largest subset in which every user and every item has at least k interactions.

    Args:
        users: (interactions,) codes from 0.
        items: (interactions,) codes from 0.
        k: repeated interactions count each.

    Returns:
        (interactions,) bool, and what was left out.
    """
    rows = np.arange(len(users))
    rounds = 0
    while True:
        rounds += 1
        user_counts, item_counts = np.bincount(users[rows]), np.bincount(items[rows])
        enough = (user_counts[users[rows]] >= k) & (item_counts[items[rows]] >= k)
        if enough.all():
            break
        rows = rows[enough]
    mask = np.zeros(len(users), dtype=bool)
    mask[rows] = True
    lost = [_distinct(codes) - _distinct(codes[rows]) for codes in (users, items)]
    return mask, CoreReport(rounds, lost[0], lost[1], len(users) - len(rows))


def _distinct(codes: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(codes)))
