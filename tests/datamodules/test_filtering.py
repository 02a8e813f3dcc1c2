"""Filters on codes against slow obvious ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.preparation import k_core, kept_of_duplicates

EVENTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5), st.integers(0, 2)), max_size=60)


def arrays(events: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    columns = np.array(events, dtype=np.int64).reshape(-1, 3).T
    return columns[0], columns[1], columns[2]


@given(EVENTS, st.integers(1, 5))
def test_the_core_is_what_is_left_when_nobody_falls_out_any_more(events: list[tuple[int, int, int]], k: int):
    left = list(enumerate(events))
    while True:
        users, items = Counter(e[0] for _, e in left), Counter(e[1] for _, e in left)
        kept = [(row, e) for row, e in left if users[e[0]] >= k and items[e[1]] >= k]
        if len(kept) == len(left):
            break
        left = kept
    users, items, _ = arrays(events)
    mask, report = k_core(users, items, k)
    assert np.flatnonzero(mask).tolist() == [row for row, _ in left]
    assert report.interactions == len(events) - len(left)
    assert report.users == len({e[0] for e in events}) - len({e[0] for _, e in left})
    assert report.items == len({e[1] for e in events}) - len({e[1] for _, e in left})


def test_a_core_falls_apart_round_by_round():
    users = np.array([0, 0, 1, 1, 2])  # a chain: item 2 falls, then user 1, then item 1, then everybody
    items = np.array([0, 1, 1, 2, 0])
    mask, report = k_core(users, items, 2)
    assert not mask.any() and report.rounds > 2


@given(EVENTS, st.sampled_from(["keep", "first", "last", "exact"]))
def test_duplicates_by_policy(events: list[tuple[int, int, int]], policy: str):
    events = sorted(events, key=lambda event: (event[0], event[2]))  # as preparation orders them
    users, items, times = arrays(events)
    key = {"keep": lambda row: row, "exact": lambda row: events[row]}.get(policy, lambda row: events[row][:2])
    order = range(len(events)) if policy != "last" else reversed(range(len(events)))
    chosen: dict[object, int] = {}
    for row in order:
        chosen.setdefault(key(row), row)
    kept = kept_of_duplicates(users, items, times, policy)
    assert np.flatnonzero(kept).tolist() == sorted(chosen.values())


@pytest.mark.parametrize("policy", ["first", "last", "exact"])
def test_nothing_in_nothing_out(policy: str):
    empty = np.zeros(0, np.int64)
    assert kept_of_duplicates(empty, empty, empty, policy).shape == (0,)
