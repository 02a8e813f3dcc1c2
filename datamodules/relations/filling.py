"""Neighbours for items that have too few: those of the items most like them."""

from __future__ import annotations

import numpy as np

__all__ = ["fill_from_similar"]

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
    kept = fresh & (place < keep)
    result = np.full((len(rows), keep), -1, dtype=rows.dtype)
    result[np.nonzero(kept)[0], place[kept]] = rows[kept]
    return result
