"""Neighbours by behaviour against slow obvious counts; no held-out item counts."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from datamodules.histories import Histories
from datamodules.preparation import prepare
from datamodules.relations import collaborative_neighbours, fill_from_similar, other_items_rows, random_neighbours
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
        patch.setattr("datamodules.relations.neighbours._PAIRS", pairs)
        found = collaborative_neighbours(Histories.from_lists(histories), ITEMS, window, keep)
    assert found.shape == (ITEMS, keep)
    assert [kept(row) for row in found] == slow_neighbours(histories, ITEMS, window, keep)


def test_little_memory_and_much_give_the_same(monkeypatch: pytest.MonkeyPatch):
    generator = np.random.default_rng(0)
    popular = generator.zipf(1.3, 20_000) % 700
    train = Histories(popular.astype(np.int32), np.arange(0, 20_000, 20), np.arange(20, 20_001, 20))
    plain = collaborative_neighbours(train, 700)
    blocks = []
    from datamodules.relations import neighbours

    count = neighbours._pairs
    monkeypatch.setattr(neighbours, "_pairs", lambda *rest: blocks.append(len(rest[3])) or count(*rest))
    monkeypatch.setattr(neighbours, "_PAIRS", 5_000)
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


def slow_filling(neighbours: list[list[int]], similar: list[list[int]], keep: int) -> list[list[int]]:
    result = []
    for item, own in enumerate(neighbours):
        found = list(own)
        for lender in similar[item]:
            for other in neighbours[lender]:
                if len(found) < keep and other != item and other not in found:
                    found.append(other)
        result.append(found)
    return result


def padded(rows: list[list[int]], width: int) -> np.ndarray:
    return np.array([row + [-1] * (width - len(row)) for row in rows])


def some_others(items: int, most: int) -> st.SearchStrategy[list[list[int]]]:
    return st.tuples(
        *(
            st.lists(
                st.integers(0, items - 1).filter(lambda other, item=item: other != item), unique=True, max_size=most
            )
            for item in range(items)
        )
    ).map(list)


@settings(max_examples=150, deadline=None)
@given(some_others(7, 4), some_others(7, 3), st.sampled_from([2, 1_024]))
def test_filling_is_that_of_a_slow_loop(neighbours: list[list[int]], similar: list[list[int]], rows: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datamodules.relations.neighbours._ROWS", rows)
        found = fill_from_similar(padded(neighbours, 4), padded(similar, 3))
    expected = slow_filling(neighbours, similar, 4)
    np.testing.assert_array_equal(found, padded(expected, 4))


def test_items_with_too_few_neighbours_borrow_those_of_similar_items():
    # 0 and 1 are bought together, 2 with 4 and 3; 5 is never bought and most like 4, then 1.
    own = padded([[1], [0], [4, 3], [2], [2], []], 3)
    similar = np.array([[5, 1], [5, 0], [3, 4], [4, 2], [3, 5], [4, 1]])
    found = fill_from_similar(own, similar).tolist()
    assert found[5] == [2, 0, -1]  # 4's neighbour, then 1's
    assert found[0] == [1, -1, -1]  # its own; 5 has none to lend, and 1's is 0 itself
    assert found[2] == [4, 3, -1]  # its own; 3 and 4 lend 2, which is itself
    assert found[3] == [2, 4, -1]  # its own, then through 4 and 2


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 3))
def test_random_neighbours_are_different_other_items(items: int, keep: int, seed: int):
    found = random_neighbours(items, keep, seed)
    assert found.shape == (items, keep)
    for item, row in enumerate(found.tolist()):
        there = [other for other in row if other >= 0]
        assert len(there) == len(set(there)) == min(keep, items - 1)
        assert item not in there and all(other < items for other in there)
        assert row == there + [-1] * (keep - len(there))


def test_every_other_item_is_as_likely_at_every_place():
    found = np.stack([random_neighbours(6, 3, seed)[2] for seed in range(3_000)])
    for place in range(3):
        counts = np.bincount(found[:, place], minlength=6)
        assert counts[2] == 0 and chisquare(np.delete(counts, 2)).pvalue > 1e-4


def test_the_seed_decides():
    assert (random_neighbours(50, 5, 1) == random_neighbours(50, 5, 1)).all()
    assert (random_neighbours(50, 5, 1) != random_neighbours(50, 5, 2)).any()
    neighbours = random_neighbours(50, 5, 0)
    assert (other_items_rows(neighbours, 1) == other_items_rows(neighbours, 1)).all()
    assert (other_items_rows(neighbours, 1) != other_items_rows(neighbours, 2)).any()


@pytest.mark.parametrize("items", [2, 3, 40])
def test_shuffled_rows_are_those_of_other_items(items: int):
    neighbours = random_neighbours(items, 4, 0)
    found = other_items_rows(neighbours, 7)
    assert found.shape == neighbours.shape
    givers = set()
    for item, row in enumerate(found.tolist()):
        there = [other for other in row if other >= 0]
        assert item not in there and len(there) == len(set(there))
        from_whom = [
            other
            for other in range(items)
            if other != item
            and all(
                mine == theirs or (theirs == item and mine == other)
                for mine, theirs in zip(row, neighbours[other].tolist(), strict=True)
            )
        ]
        assert from_whom
        givers.update(from_whom)
    assert givers == set(range(items))


def test_one_item_has_nothing_to_shuffle():
    assert other_items_rows(np.array([[-1, -1]]), 0).tolist() == [[-1, -1]]
