"""Slices of a flat array behave as the list of arrays that they stand for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datamodules.histories import Histories

LISTS = st.lists(st.lists(st.integers(0, 50), max_size=9), max_size=6)


@given(LISTS, st.data())
def test_as_a_list_of_arrays(lists: list[list[int]], data):
    histories = Histories.from_lists(lists)
    assert len(histories) == len(lists)
    assert [row.tolist() for row in histories] == lists
    assert [histories[i].tolist() for i in range(len(lists))] == lists
    assert histories.lengths.tolist() == [len(row) for row in lists]
    assert histories.flat().tolist() == [item for row in lists for item in row]
    assert histories.owners().tolist() == [owner for owner, row in enumerate(lists) for _ in row]
    index = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8)) if lists else []
    taken = histories.take(np.array(index, dtype=np.int64))
    assert [row.tolist() for row in taken] == [lists[i] for i in index]
    assert taken.flat().tolist() == [item for i in index for item in lists[i]]
    assert [row.tolist() for row in histories[1:3]] == lists[1:3]
    assert taken.items is histories.items  # nothing was copied


@given(LISTS, st.integers(1, 12))
def test_padding_keeps_the_latest_at_the_right(lists: list[list[int]], longest: int):
    padded = Histories.from_lists(lists).padded(longest)
    expected = [([-1] * longest + row)[-longest:] for row in lists]
    assert padded.shape == (len(lists), longest) and padded.tolist() == expected
