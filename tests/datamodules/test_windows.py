"""Training windows teach every item but a user's first exactly once, and nothing that is held out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.histories import answer_windows, compact_windows
from datamodules.splits import Sequences

lengths = st.lists(st.integers(3, 30), min_size=1, max_size=5)


def sequences(lengths: list[int]) -> Sequences:
    """Every interaction is an item of its own, so that each can be told from all others."""
    ends = np.cumsum(lengths)
    rows = [np.arange(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    return Sequences.from_lists([f"u{user}" for user in range(len(lengths))], rows)


def reference(rows: np.ndarray, max_history: int) -> list[tuple[list[int], int]]:
    """Compact windows of one user, step by step."""
    if len(rows) < 2:
        return []
    size = max_history + 1
    end = min(size, len(rows))
    windows = [(rows[:end].tolist(), end - 1)]
    while end < len(rows):
        step = min(max(size // 2, 1), len(rows) - end)
        end += step
        windows.append((rows[end - size : end].tolist(), step))
    return windows


@settings(max_examples=150, deadline=None)
@given(lengths, st.integers(1, 12), st.sampled_from([compact_windows, answer_windows]))
def test_every_training_item_but_the_first_is_a_target_exactly_once(lengths: list[int], max_history: int, cut):
    data = sequences(lengths)
    taught: Counter[int] = Counter()
    windows = cut(data.train, max_history)
    for window, count in zip(windows.histories, windows.supervised, strict=True):
        assert 1 <= count < len(window) <= max_history + 1
        user = next(rows for rows in data.train if window[0] in rows)
        start = int(window[0] - user[0])
        assert window.tolist() == user[start : start + len(window)].tolist()  # a piece of one user's training part
        for position in range(len(window) - count, len(window)):
            taught[int(window[position])] += 1
            behind = int(window[position] - user[0])
            # the context is all there is, or at least half of what a prompt holds
            assert position >= min(behind, max(1, (max_history + 1) - max((max_history + 1) // 2, 1)))
            assert cut is compact_windows or position == min(behind, max_history)
    assert taught == Counter(int(item) for rows in data.train for item in rows[1:])


@settings(max_examples=100, deadline=None)
@given(lengths, st.integers(1, 12))
def test_compact_windows_equal_the_loop_over_users(lengths: list[int], max_history: int):
    train = sequences(lengths).train
    windows = compact_windows(train, max_history)
    found = [(window.tolist(), int(count)) for window, count in zip(windows.histories, windows.supervised, strict=True)]
    assert found == [window for rows in train for window in reference(rows, max_history)]


def test_long_sequences_overlap_by_half():
    windows = compact_windows(sequences([13]).train, 5)
    assert [(window.tolist(), count) for window, count in zip(windows.histories, windows.supervised, strict=True)] == [
        ([0, 1, 2, 3, 4, 5], 5),
        ([3, 4, 5, 6, 7, 8], 3),
        ([5, 6, 7, 8, 9, 10], 2),
    ]


@pytest.mark.parametrize("cut", [compact_windows, answer_windows])
def test_users_without_a_target_have_no_window(cut):
    assert len(cut(sequences([3, 3]).train, 5)) == 0
