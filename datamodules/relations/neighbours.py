"""Neighbours by behaviour in the training part, filled up by meaning, random ones as a control, and their tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.histories import Histories, spread
from datamodules.relations.similarity import EXACT_ITEMS, KEPT, nearest_in_cells, search_recall, semantic_neighbours
from dig.config.schema import RelationsConfig
from dig.engine.console import track

__all__ = [
    "WINDOW",
    "collaborative_neighbours",
    "fill_from_similar",
    "other_items_rows",
    "random_neighbours",
    "relation_tables",
]


WINDOW = 5
"""Two items co-occur when they stand within this many positions of a history."""
_PAIRS = 4_000_000  # pairs counted at once; an item alone may have more


def collaborative_neighbours(train: Histories, items: int, window: int = WINDOW, keep: int = KEPT) -> np.ndarray:
    """The items that most often stand near an item, ranked by (count, the neighbour's frequency, its row).

    Two occurrences at most ``window`` positions apart in a history are one count for both items; an item is no
    neighbour of its own. Items are counted in blocks of this many that their pairs fit into a few hundred megabytes, so
    memory follows the length of the data, not the number of different pairs.

    Args:
        train: histories of the training part; held-out items are in none of them.
        items: size of the catalogue.
        window: the largest distance in positions.
        keep: neighbours per item.

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
    neighbours = np.full((items, keep), -1, dtype=np.int64)
    blocks = list(_blocks(begins, max(_PAIRS // (2 * window), 1)))
    for first, stop in track(blocks, "items bought together") if len(blocks) > 10 else blocks:
        positions = of_item[begins[first] : begins[stop]]
        keys = _pairs(flat, before, after, positions, first, rank, window)
        row, other, turn = _ranked(keys, items)
        near = turn < keep
        neighbours[first + row[near], turn[near]] = by_rank[other[near]]
    return neighbours


def _blocks(begins: np.ndarray, positions: int) -> Iterator[tuple[int, int]]:
    """Ranges of items that have at most this many occurrences together, an item at least."""
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
    row, items, pairs = flat[positions].astype(np.int64) - first, len(rank), []
    for distance in range(1, window + 1):
        for step, room in ((-distance, before), (distance, after)):
            inside = room[positions] >= distance
            own, other = row[inside], flat[positions[inside] + step]
            different = other != own + first
            pairs.append(own[different] * items + rank[other[different]])
    return np.concatenate(pairs)


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


# Neighbours for items that have too few: those of the items most like them.


_ROWS = 1_024  # items filled at once


def fill_from_similar(neighbours: np.ndarray, similar: np.ndarray) -> np.ndarray:
    """Puts the neighbours of the most similar items behind those of items that have too few.

    The most similar item lends first, in the order of its own neighbours; nothing is lent that was lent itself, no item
    becomes its own neighbour, and none is named twice.

    Args:
        neighbours: (items, keep) rows, best first, -1 where there is none.
        similar: (items, any) rows, most similar first, -1 where there is none.

    Returns:
        (items, keep) rows; what an item had stays in its place.
    """
    result = neighbours.copy()
    short = np.flatnonzero(neighbours[:, -1] < 0)
    for start in range(0, len(short), _ROWS):
        own = short[start : start + _ROWS]
        lenders = similar[own]
        lent = np.where(lenders[:, :, None] >= 0, neighbours[lenders], -1).reshape(len(own), -1)
        lent = np.where(lent == own[:, None], -1, lent)
        result[own] = _first_distinct(np.concatenate([neighbours[own], lent], axis=1), neighbours.shape[1])
    return result


def _first_distinct(rows: np.ndarray, keep: int) -> np.ndarray:
    """The first ``keep`` different values of each row in their order, -1 is no value."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    first = ordered >= 0
    first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    fresh = np.zeros_like(first)
    np.put_along_axis(fresh, order, first, axis=1)
    place = fresh.cumsum(axis=1) - 1
    mask = fresh & (place < keep)
    result = np.full((len(rows), keep), -1, dtype=rows.dtype)
    result[np.nonzero(mask)[0], place[mask]] = rows[mask]
    return result


# Neighbours that mean nothing, to tell what relations add from what more training adds.


def random_neighbours(items: int, keep: int, seed: int) -> np.ndarray:
    """Different other items for every item, each set as likely as any other (Floyd's method, all items at once).

    Args:
        items: size of the catalogue.
        keep: neighbours per item.
        seed: of the draw.

    Returns:
        (items, keep) int64 rows in random order; -1 at the end in a catalogue of fewer.
    """
    generator = np.random.default_rng(seed)
    others = items - 1
    count = min(keep, others)
    drawn = np.full((items, count), -1, dtype=np.int64)
    for place, last in enumerate(range(others - count, others)):
        number = generator.integers(0, last + 1, items)
        taken = (drawn == number[:, None]).any(axis=1)
        drawn[:, place] = np.where(taken, last, number)
    drawn = generator.permuted(drawn, axis=1)
    drawn += drawn >= np.arange(items)[:, None]  # everybody counts the others without itself
    return np.pad(drawn, ((0, 0), (0, keep - count)), constant_values=-1)


def other_items_rows(neighbours: np.ndarray, seed: int) -> np.ndarray:
    """Gives every item the neighbours of another one, so that each is named as often as before.

    An item that finds itself among them gets the other one in its place.

    Args:
        neighbours: (items, keep) rows, -1 where there is none; no item is its own neighbour.
        seed: decides who gets whose.

    Returns:
        (items, keep).
    """
    circle = np.random.default_rng(seed).permutation(len(neighbours))
    other = np.empty_like(circle)
    other[circle] = np.roll(circle, 1)  # one circle through all items, so that nobody keeps its own
    given = neighbours[other]
    own = np.arange(len(neighbours))[:, None]
    return np.where((given == own) & (len(neighbours) > 1), other[:, None], given)


# Both tables of relations as they are configured, and what there is to say of them.


def relation_tables(
    config: RelationsConfig,
    wanted: set[str],
    train: Histories,
    items: int,
    vectors: Callable[[], Tensor],
    seed: int,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Neighbours of every item.

    Args:
        config: how they are found.
        wanted: ``collaborative``, ``semantic`` or both.
        train: histories of the training part.
        items: size of the catalogue.
        vectors: gives (items, dim) of the items' texts; asked only where they are compared.
        seed: of what is drawn.

    Returns:
        (items, kept) int32 catalogue rows by table, best first, -1 where there is none; and facts by table, how vectors
        were searched under ``search``.
    """
    facts: dict[str, Any] = {}
    similar = _similar(config, vectors(), facts) if config.compares_texts(wanted) else None
    tables = {}
    if "collaborative" in wanted:
        tables["collaborative"] = _collaborative(config, train, items, similar, seed, facts)
    if "semantic" in wanted:
        tables["semantic"] = _semantic(config, items, similar, seed + 1)  # not the draw of the other table
    for name, table in tables.items():
        facts[name] = {
            "mode": getattr(config, name),
            "neighbours": float((table >= 0).sum(axis=1).mean()),
            "none": int((table[:, 0] < 0).sum()),
        } | facts.get(name, {})
    return {name: np.ascontiguousarray(table.astype(np.int32)) for name, table in tables.items()}, facts


def _collaborative(
    config: RelationsConfig, train: Histories, items: int, similar: np.ndarray | None, seed: int, facts: dict[str, Any]
) -> np.ndarray:
    if config.collaborative == "random":
        return random_neighbours(items, config.kept, seed)
    own = collaborative_neighbours(train, items, config.window, config.kept)
    facts["collaborative"] = {"own": float((own >= 0).sum(axis=1).mean()), "short": int((own[:, -1] < 0).sum())}
    filled = fill_from_similar(own, similar) if config.fill and similar is not None else own
    return other_items_rows(filled, seed) if config.collaborative == "shuffled" else filled


def _semantic(config: RelationsConfig, items: int, similar: np.ndarray | None, seed: int) -> np.ndarray:
    if config.semantic == "random" or similar is None:
        return random_neighbours(items, config.kept, seed)
    return other_items_rows(similar, seed) if config.semantic == "shuffled" else similar


def _similar(config: RelationsConfig, vectors: Tensor, facts: dict[str, Any]) -> np.ndarray:
    """(items, kept) the nearest by the cosine of their vectors."""
    if config.search == "exact" or (config.search == "auto" and len(vectors) <= EXACT_ITEMS):
        facts["search"] = {"how": "exact"}
        return semantic_neighbours(vectors, config.kept)
    similar = nearest_in_cells(vectors, config.kept, config.probes)
    facts["search"] = {"how": "cells", "probes": config.probes, "recall": round(search_recall(vectors, similar), 4)}
    return similar
