"""Neighbours by behaviour and by meaning, against slow obvious counts; no held-out item counts."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.histories import Histories
from datamodules.preparation import prepare
from datamodules.relations import collaborative_neighbours, semantic_neighbours
from datamodules.sources import read_source
from datamodules.splits import Sequences
from dig.config import load_config

ITEMS = 9


def slow_neighbours(histories: list[list[int]], items: int, reach: int, keep: int) -> list[list[int]]:
    counts: list[Counter[int]] = [Counter() for _ in range(items)]
    frequency: Counter[int] = Counter()
    for history in histories:
        frequency.update(history)
        for place, item in enumerate(history):
            for other in history[max(0, place - reach) : place] + history[place + 1 : place + reach + 1]:
                if other != item:
                    counts[item][other] += 1
    return [sorted(found, key=lambda other: (-found[other], -frequency[other], other))[:keep] for found in counts]


def kept(row: np.ndarray) -> list[int]:
    return [value for value in row.tolist() if value >= 0]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=9), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from([2, 4_000_000]),
)
def test_counts_and_ranks_are_those_of_a_slow_loop(histories: list[list[int]], reach: int, keep: int, chunk: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datamodules.relations._CHUNK", chunk)
        found = collaborative_neighbours(Histories.from_lists(histories), ITEMS, reach=reach, keep=keep)
    assert [kept(row) for row in found] == slow_neighbours(histories, ITEMS, reach, keep)


def test_items_with_too_few_neighbours_borrow_those_of_similar_items():
    # 0 and 1 are bought together, 2 with 3 and 4; 5 is never bought and most like 4, then 1.
    train = Histories.from_lists([[0, 1], [2, 3], [2, 4], [2, 4]])
    semantic = np.array([[5, 1], [5, 0], [3, 4], [4, 2], [3, 5], [4, 1]])
    found = collaborative_neighbours(train, 6, semantic, keep=3)
    assert kept(found[5]) == [2, 0]  # 4's neighbour, then 1's
    assert kept(found[0]) == [1]  # its own; 5 has none to lend, and 1's is 0 itself
    assert kept(found[2]) == [4, 3]  # its own; 3 and 4 lend 2, which is itself
    assert kept(found[3]) == [2, 4]  # its own, then through 4 and 2


def test_semantic_neighbours_are_the_nearest_by_cosine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datamodules.relations._ROWS", 7)
    vectors = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    vectors[3] = 5 * vectors[11]
    found = semantic_neighbours(vectors, keep=4)
    for item in range(30):
        similarity = torch.nn.functional.cosine_similarity(vectors[item : item + 1], vectors)
        similarity[item] = -2
        assert found[item].tolist() == similarity.argsort(descending=True)[:4].tolist()
    assert found[3, 0] == 11 and found[11, 0] == 3
    assert semantic_neighbours(vectors[:3], keep=4)[:, 2:].max() == -1  # two others are all there are


def test_no_pair_comes_from_a_held_out_item():
    """Every interaction is an item of its own, so each neighbour tells where it comes from."""
    rows = [list(range(start, start + 6)) for start in range(0, 30, 6)]
    sequences = Sequences.from_lists(list("abcde"), rows)
    found = collaborative_neighbours(sequences.train, 30)
    held_out = {item for row in rows for item in row[-2:]}
    assert held_out.isdisjoint(found[found >= 0].tolist())
    assert all(not kept(found[item]) for item in held_out)
    assert kept(found[1]) == [0, 2, 3]


@pytest.mark.skipif("DIG_DATA_ROOT" not in os.environ, reason="DIG_DATA_ROOT names no real data")
def test_beautys_counts_are_those_of_a_slow_loop():
    config = load_config("beauty").data
    prepared = prepare(read_source(config), config)
    train = prepared.sequences.train
    found = collaborative_neighbours(train, len(prepared.catalogue))
    expected = slow_neighbours([history.tolist() for history in train], len(prepared.catalogue), 5, 10)
    assert [kept(row) for row in found] == expected
    assert Path(str(config.path)).name == "beauty" and (found[:, 4] >= 0).mean() > 0.9
