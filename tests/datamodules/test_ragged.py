"""Rows of different lengths, against lists."""

from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datamodules.histories import Ragged, spread

rows = st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=8)


def lists(ragged: Ragged) -> list[list[int]]:
    return [ragged[row].tolist() for row in range(len(ragged))]


@given(rows)
def test_there_and_back(content: list[list[int]]):
    ragged = Ragged.from_lists(content)
    assert lists(ragged) == content and ragged.lengths.tolist() == [len(row) for row in content]


@given(rows.filter(bool), st.data())
def test_take_cut_and_grouped(content: list[list[int]], data: st.DataObject):
    ragged = Ragged.from_lists(content)
    chosen = data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6))
    assert lists(ragged.take(np.array(chosen, dtype=np.int64))) == [content[row] for row in chosen]
    longest = data.draw(st.lists(st.integers(0, 5), min_size=len(content), max_size=len(content)))
    assert lists(ragged.cut(np.array(longest))) == [row[:end] for row, end in zip(content, longest, strict=True)]
    counts, left = [], len(content)
    while left:
        counts.append(data.draw(st.integers(0, left)) if len(counts) < 9 else left)
        left -= counts[-1]
    begins = np.append(0, np.cumsum(counts))
    expected = [list(chain(*content[begin:end])) for begin, end in pairwise(begins)]
    assert lists(ragged.grouped(np.array(counts))) == expected


@given(
    st.integers(0, 6).flatmap(
        lambda n: st.lists(
            st.lists(st.lists(st.integers(0, 99), max_size=4), min_size=n, max_size=n), min_size=1, max_size=3
        )
    )
)
def test_joined_rows_keep_the_order_of_the_parts(parts: list[list[list[int]]]):
    found = Ragged.joined(*(Ragged.from_lists(part) for part in parts))
    assert lists(found) == [list(chain(*pieces)) for pieces in zip(*parts, strict=True)]


def test_padding_is_left_out():
    padded = np.array([[3, -1, -1], [-1, -1, -1], [1, 2, 0]])
    assert lists(Ragged.from_padded(padded)) == [[3], [], [1, 2, 0]]


def test_spread_counts_within_each_row():
    assert spread(np.array([2, 0, 3])).tolist() == [0, 1, 0, 1, 2]
