"""What a data set looks like: numbers, distributions and sample records, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from datamodules.preparation import Prepared
from datamodules.sources.base import Tables

__all__ = ["Histogram", "Inspection", "inspect_data"]

_YEAR_2000, _YEAR_2100 = 946_684_800, 4_102_444_800  # seconds
_SAMPLES = 3
_SHOWN_HISTORY = 8


@dataclass(frozen=True)
class Histogram:
    """Counts of values in bins.

    Attributes:
        title: what is counted.
        unit: what the values are.
        labels: (bins,) of each bin.
        counts: (bins,).
    """

    title: str
    unit: str
    labels: list[str]
    counts: list[int]


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect_data` found.

    Attributes:
        facts: numbers by name, for people.
        histograms: distributions.
        samples: records as they came, by kind.
    """

    facts: dict[str, str]
    histograms: list[Histogram]
    samples: list[tuple[str, str]]


def inspect_data(tables: Tables, prepared: Prepared) -> Inspection:
    """Describes tables as read, and what preparation makes of them."""
    sequences = prepared.sequences
    histograms = [
        _binned("interactions a user", "interactions", sequences.rows.lengths),
        _binned(
            "interactions an item", "interactions", np.bincount(sequences.items, minlength=len(prepared.catalogue))
        ),
        _binned("title length", "characters", prepared.catalogue["title"].str.len_chars().fill_null(0).to_numpy()),
    ]
    times = tables.interactions["timestamp"].to_numpy()
    if _clock(tables) == "calendar":
        histograms.insert(2, _by_year(times))
    return Inspection(_facts(tables, prepared), histograms, _samples(prepared))


def _facts(tables: Tables, prepared: Prepared) -> dict[str, str]:
    found, catalogue = prepared.statistics, prepared.catalogue
    users, lengths = found["users"], prepared.sequences.rows.lengths
    bought = np.bincount(prepared.sequences.items, minlength=len(catalogue))
    facts = {
        "users": f"{users:,}",
        "items": f"{found['items']:,}",
        "interactions": f"{found['interactions']:,} of {found['rows_read'] + found['bad_rows']:,} rows",
        "interactions a user": f"mean {lengths.mean():.2f}, median {np.median(lengths):.0f}, most {lengths.max():,}",
        "interactions an item": f"mean {bought.mean():.2f}, median {np.median(bought):.0f}, most {bought.max():,}",
        "density": f"{found['density']:.3%}",
        "split": f"{found['split']}: {found['examples']['valid']:,} validations, {found['examples']['test']:,} tests",
        "times": _time_range(tables),
        "same-day last pairs": _share(found["same_day_last_pairs"], users, "of users"),
        "last pairs at one moment": _share(found["tied_last_pairs"], users, "of users; row order decides"),
        "ties in all": _share(found["tied_pairs"], found["interactions"] - users, "of neighbours"),
        "repeated items": f"{found['duplicates']['repeated']:,} (policy: {found['duplicates']['policy']})",
        "rows not read": f"{found['bad_rows']:,}",
        "users left out": f"{found['short_users'] + found['k_core']['users']:,}",
        "items without interactions": f"{int((bought == 0).sum()):,}",
    }
    for column in ("title", "brand", "categories", "description", "price", "image"):
        facts[f"items with {column}"] = _share(len(catalogue) - catalogue[column].null_count(), len(catalogue), "")
    return facts | _slice_facts(prepared.slices)


def _slice_facts(slices: pl.DataFrame) -> dict[str, str]:
    tests = slices.filter(pl.col("part") == "test")
    facts = {}
    for column, name in (("target_slice", "tests by target"), ("history_slice", "tests by history")):
        counts: Mapping[str, int] = dict(tests[column].value_counts(sort=True).iter_rows())
        facts[name] = ", ".join(f"{value} {count:,}" for value, count in counts.items())
    return facts


def _share(part: int, whole: int, of: str) -> str:
    return f"{part:,} ({part / max(whole, 1):.0%}{f' {of}' if of else ''})"


def _clock(tables: Tables) -> str:
    """What timestamps count: ``calendar`` seconds, seconds ``relative`` to each user's start, or ``other``."""
    times = tables.interactions["timestamp"]
    firsts = tables.interactions.group_by("user_id").agg(pl.col("timestamp").min())["timestamp"]
    if times.is_between(_YEAR_2000 / 2, _YEAR_2100).all():
        return "calendar"
    return "relative" if len(firsts) > 1 and firsts.n_unique() == 1 else "other"


def _time_range(tables: Tables) -> str:
    times = tables.interactions["timestamp"]
    low, high = float(times.min() or 0), float(times.max() or 0)
    kind = _clock(tables)
    if kind == "calendar":
        days = [datetime.fromtimestamp(moment, UTC).date().isoformat() for moment in (low, high)]
        return f"{days[0]} to {days[1]}"
    if kind == "relative":
        return f"relative to each user's first interaction, up to {high:g}; no calendar, so no global-time split"
    return f"{low:g} to {high:g}, no calendar seconds"


def _binned(title: str, unit: str, values: np.ndarray) -> Histogram:
    """Bins that double in width, since shops have long tails."""
    edges = [0, 1, 2, 3, 5, 9]
    while edges[-1] <= (values.max() if len(values) else 0):
        edges.append((edges[-1] - 1) * 2 + 1)
    counts = np.histogram(values, bins=[*edges, np.inf])[0]
    bins = []
    for low, high, count in zip(edges, [*edges[1:], edges[-1] + 1], counts.tolist(), strict=True):
        bins.append((str(low) if high - low == 1 else f"{low}-{high - 1}", count))
    while bins and not bins[-1][1]:
        bins.pop()
    while bins and not bins[0][1]:
        bins.pop(0)
    return Histogram(title, unit, [label for label, _ in bins], [count for _, count in bins])


def _by_year(times: np.ndarray) -> Histogram:
    years = pl.from_epoch(pl.Series(times).cast(pl.Int64), time_unit="s").dt.year()
    counts: dict[int, int] = dict(years.value_counts().iter_rows())
    span = range(min(counts), max(counts) + 1)
    return Histogram(
        "interactions a year", "year", [str(year) for year in span], [counts.get(year, 0) for year in span]
    )


def _samples(prepared: Prepared) -> list[tuple[str, str]]:
    """An item, a history, a held-out target; the same ones every time."""
    catalogue, sequences = prepared.catalogue, prepared.sequences
    tests = sequences.held_out("test")
    samples = []
    for place in np.linspace(0, len(tests) - 1, _SAMPLES).astype(int).tolist():
        history = [_named(catalogue, int(row)) for row in tests.histories[place][-_SHOWN_HISTORY:]]
        user, target = sequences.user_ids[int(tests.users[place])], _named(catalogue, int(tests.targets[place]))
        samples.append((f"user {user}", " → ".join([*history, f"test: {target}"])))
    for row in np.linspace(0, len(catalogue) - 1, _SAMPLES).astype(int).tolist():
        item: dict[str, Any] = catalogue.row(row, named=True)
        text = "; ".join(f"{key}: {value}" for key, value in item.items() if value is not None and key != "item_id")
        samples.append((f"item {item['item_id']}", text))
    return samples


def _named(catalogue: pl.DataFrame, row: int) -> str:
    title, item_id = catalogue["title"][row], catalogue["item_id"][row]
    return f"{item_id} ({title[:40]})" if title else str(item_id)
