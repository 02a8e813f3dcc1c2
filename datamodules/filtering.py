"""Which interactions stay: repeated items and the k-core, on integer codes, without a loop over users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["CoreReport", "k_core", "kept_of_duplicates"]


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
    kept = np.ones(len(users), dtype=bool)
    if policy == "keep" or not len(users):
        return kept
    keys = (items, users) if policy != "exact" else (times, items, users)
    order = np.lexsort(keys)  # stable: equal keys stay in the order of time
    repeated = np.ones(len(order) - 1, dtype=bool)
    for key in keys:
        repeated &= key[order][1:] == key[order][:-1]
    kept[order[:-1][repeated] if policy == "last" else order[1:][repeated]] = False
    return kept


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, CoreReport]:
    """The largest subset in which every user and every item has at least k interactions.

    Args:
        users: (interactions,) codes from 0.
        items: (interactions,) codes from 0.
        k: repeated interactions count each.

    Returns:
        (interactions,) bool, and what was left out.
    """
    kept = np.arange(len(users))
    rounds = 0
    while True:
        rounds += 1
        user_counts, item_counts = np.bincount(users[kept]), np.bincount(items[kept])
        enough = (user_counts[users[kept]] >= k) & (item_counts[items[kept]] >= k)
        if enough.all():
            break
        kept = kept[enough]
    mask = np.zeros(len(users), dtype=bool)
    mask[kept] = True
    lost = [_distinct(codes) - _distinct(codes[kept]) for codes in (users, items)]
    return mask, CoreReport(rounds, lost[0], lost[1], len(users) - len(kept))


def _distinct(codes: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(codes)))
