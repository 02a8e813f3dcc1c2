"""Neighbours that mean nothing, to tell what relations add from what more training adds."""

from __future__ import annotations

import numpy as np

__all__ = ["other_items_rows", "random_neighbours"]


def random_neighbours(items: int, keep: int, seed: int) -> np.ndarray:
    """Different other items for every item, each set as likely as any other (Floyd's method, all items at once).

    Args:
        items: size of the catalogue.
        keep: neighbours an item.
        seed: of the draw.

    Returns:
        (items, keep) int64 rows in random order; -1 at the end in a catalogue of fewer.
    """
    generator = np.random.default_rng(seed)
    others = items - 1
    wanted = min(keep, others)
    drawn = np.full((items, wanted), -1, dtype=np.int64)
    for place, last in enumerate(range(others - wanted, others)):
        number = generator.integers(0, last + 1, items)
        taken = (drawn == number[:, None]).any(axis=1)
        drawn[:, place] = np.where(taken, last, number)
    drawn = generator.permuted(drawn, axis=1)
    drawn += drawn >= np.arange(items)[:, None]  # everybody counts the others without itself
    return np.pad(drawn, ((0, 0), (0, keep - wanted)), constant_values=-1)


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
