"""Neighbours by behaviour: what stands near an item in the training part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from datamodules.histories import Histories, spread
from dig.engine.console import track

__all__ = ["KEPT", "WINDOW", "collaborative_neighbours"]

WINDOW = 5
"""Two items co-occur when they stand within this many positions of a history."""
KEPT = 10
"""Neighbours that are kept of an item."""
_PAIRS = 4_000_000  # pairs counted at once; an item alone may have more


def collaborative_neighbours(train: Histories, items: int, window: int = WINDOW, keep: int = KEPT) -> np.ndarray:
    """The items that most often stand near an item, ranked by (count, the neighbour's frequency, its row).

    Two occurrences at most ``window`` positions apart in a history are one count for both items; an item is no
    neighbour of its own. Items are counted in blocks of so many that their pairs fit into a few hundred megabytes, so
    memory follows the length of the data, not the number of different pairs.

    Args:
        train: histories of the training part; held-out items are in none of them.
        items: size of the catalogue.
        window: the largest distance in positions.
        keep: neighbours an item.

    Returns:
        (items, keep) int64 rows, best first, -1 where there is none.
    """
    flat, lengths = train.flat(), train.lengths
    before = spread(lengths).astype(np.int32)  # items of the same history before a position, and after it
    after = np.repeat(lengths, lengths).astype(np.int32) - 1 - before
    frequency = np.bincount(flat, minlength=items)
    by_rank = np.argsort(-frequency, kind="stable")  # more frequent first, then by row: how ties are broken
    rank = np.empty(items, dtype=np.int64)
    rank[by_rank] = np.arange(items)
    of_item = np.argsort(flat, kind="stable")  # positions of the first item, then of the second, and so on
    begins = np.append(0, np.cumsum(frequency))
    found = np.full((items, keep), -1, dtype=np.int64)
    blocks = list(_blocks(begins, max(_PAIRS // (2 * window), 1)))
    for first, stop in track(blocks, "items bought together") if len(blocks) > 10 else blocks:
        positions = of_item[begins[first] : begins[stop]]
        keys = _pairs(flat, before, after, positions, first, rank, window)
        row, other, turn = _ranked(keys, items)
        near = turn < keep
        found[first + row[near], turn[near]] = by_rank[other[near]]
    return found


def _blocks(begins: np.ndarray, positions: int) -> Iterator[tuple[int, int]]:
    """Ranges of items that have at most so many occurrences together, an item at least."""
    first, items = 0, len(begins) - 1
    while first < items:
        stop = int(np.searchsorted(begins, begins[first] + positions, side="right")) - 1
        stop = max(stop, first + 1)
        yield first, stop
        first = stop


def _pairs(
    flat: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    positions: np.ndarray,
    first: int,
    rank: np.ndarray,
    window: int,
) -> np.ndarray:
    """A number for each pair that starts at the positions: (row - first) * items + rank of the other item."""
    row, items, found = flat[positions].astype(np.int64) - first, len(rank), []
    for distance in range(1, window + 1):
        for step, room in ((-distance, before), (distance, after)):
            inside = room[positions] >= distance
            own, other = row[inside], flat[positions[inside] + step]
            different = other != own + first
            found.append(own[different] * items + rank[other[different]])
    return np.concatenate(found)


def _ranked(keys: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, rank of the other item and place among the row's neighbours of each different pair, row after row."""
    keys.sort()
    begins = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(begins, append=len(keys))
    row, other = np.divmod(keys[begins], items)
    most = int(counts.max(initial=0))
    order = np.argsort(row * (most + 1) + most - counts, kind="stable")  # ties stay in the order of ranks
    row = row[order]  # sorted as before: only the order within a row has changed
    return row, other[order], np.arange(len(row)) - np.searchsorted(row, row)
