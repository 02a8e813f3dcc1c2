"""The controls: as many neighbours, none of them the item itself, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from datamodules.relations import other_items_rows, random_neighbours


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
