"""Neighbours that are lent, by hand and against a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.relations import fill_from_similar


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
        patch.setattr("datamodules.relations.filling._ROWS", rows)
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
