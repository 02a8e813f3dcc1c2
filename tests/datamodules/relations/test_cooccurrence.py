"""Neighbours by behaviour against slow obvious counts; no held-out item counts."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.histories import Histories
from datamodules.preparation import prepare
from datamodules.relations import collaborative_neighbours
from datamodules.sources import read_source
from datamodules.splits import Sequences
from dig.config import load_config

ITEMS = 9


def slow_neighbours(histories: list[list[int]], items: int, window: int, keep: int) -> list[list[int]]:
    counts: list[Counter[int]] = [Counter() for _ in range(items)]
    frequency: Counter[int] = Counter()
    for history in histories:
        frequency.update(history)
        for place, item in enumerate(history):
            for other in history[max(0, place - window) : place] + history[place + 1 : place + window + 1]:
                if other != item:
                    counts[item][other] += 1
    return [sorted(found, key=lambda other: (-found[other], -frequency[other], other))[:keep] for found in counts]


def kept(row: np.ndarray) -> list[int]:
    return [value for value in row.tolist() if value >= 0]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=9), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from([1, 20, 60, 4_000_000]),
)
def test_counts_and_ranks_are_those_of_a_slow_loop(histories: list[list[int]], window: int, keep: int, pairs: int):
    """Also when memory allows no more than an item or a few at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datamodules.relations.cooccurrence._PAIRS", pairs)
        found = collaborative_neighbours(Histories.from_lists(histories), ITEMS, window, keep)
    assert found.shape == (ITEMS, keep)
    assert [kept(row) for row in found] == slow_neighbours(histories, ITEMS, window, keep)


def test_little_memory_and_much_give_the_same(monkeypatch: pytest.MonkeyPatch):
    generator = np.random.default_rng(0)
    popular = generator.zipf(1.3, 20_000) % 700
    train = Histories(popular.astype(np.int32), np.arange(0, 20_000, 20), np.arange(20, 20_001, 20))
    plain = collaborative_neighbours(train, 700)
    blocks = []
    from datamodules.relations import cooccurrence

    count = cooccurrence._pairs
    monkeypatch.setattr(cooccurrence, "_pairs", lambda *rest: blocks.append(len(rest[3])) or count(*rest))
    monkeypatch.setattr(cooccurrence, "_PAIRS", 5_000)
    np.testing.assert_array_equal(collaborative_neighbours(train, 700), plain)
    most = np.bincount(popular).max()
    assert len(blocks) > 20 and max(blocks) <= max(500, most)


def test_no_pair_comes_from_a_held_out_item():
    """Every interaction is an item of its own, so each neighbour tells where it comes from."""
    rows = [list(range(start, start + 6)) for start in range(0, 30, 6)]
    sequences = Sequences.from_lists(list("abcde"), rows)
    found = collaborative_neighbours(sequences.train, 30)
    held_out = {item for row in rows for item in row[-2:]}
    assert held_out.isdisjoint(found[found >= 0].tolist())
    assert all(not kept(found[item]) for item in held_out)
    assert kept(found[1]) == [0, 2, 3]


@given(st.integers(0, 39), st.integers(0, 11), st.sampled_from([-1, -2]))
@settings(max_examples=60, deadline=None)
def test_another_held_out_item_changes_no_relation(user: int, item: int, place: int):
    rows = np.random.default_rng(3).integers(0, 12, (40, 7))
    names = [f"u{number}" for number in range(40)]
    before = collaborative_neighbours(Sequences.from_lists(names, list(rows)).train, 12)
    rows[user, place] = item
    np.testing.assert_array_equal(collaborative_neighbours(Sequences.from_lists(names, list(rows)).train, 12), before)


def test_an_item_of_the_training_part_does_change_them():
    rows = [[0, 1, 2, 3], [0, 4, 2, 3]]
    before = collaborative_neighbours(Sequences.from_lists(["a", "b"], rows).train, 6)
    rows[1][1] = 5
    assert (collaborative_neighbours(Sequences.from_lists(["a", "b"], rows).train, 6) != before).any()


@pytest.mark.skipif("DIG_DATA_ROOT" not in os.environ, reason="DIG_DATA_ROOT names no real data")
def test_beautys_counts_are_those_of_a_slow_loop():
    config = load_config("beauty").data
    prepared = prepare(read_source(config), config)
    train = prepared.sequences.train
    found = collaborative_neighbours(train, len(prepared.catalogue))
    expected = slow_neighbours([history.tolist() for history in train], len(prepared.catalogue), 5, 10)
    assert [kept(row) for row in found] == expected
    assert len(found) == 12_101 and (found[:, 4] >= 0).mean() > 0.9
