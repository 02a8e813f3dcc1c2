"""The splits against independent references, and their round trip through the disk."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.splits import (
    Sequences,
    global_time_parts,
    leading_items,
    leave_one_out_parts,
)
from dig.config import UserError
from dig.config.schema import DataConfig

LENGTHS = st.lists(st.integers(1, 8), min_size=1, max_size=6)


def timed(users: dict[str, list[tuple[int, int]]], fractions: tuple[float, float, float]) -> Sequences:
    """Sequences under a global-time split; each user has (item, time) in order."""
    offsets = np.append(0, np.cumsum([len(events) for events in users.values()]))
    events = [event for user in users.values() for event in user]
    items, times = np.array([e[0] for e in events], np.int32), np.array([e[1] for e in events], float)
    parts = global_time_parts(offsets, times, fractions)
    return Sequences(pl.Series(list(users)), items, offsets, parts, "global-time")


@given(LENGTHS)
def test_leave_one_out_takes_the_last_two(lengths: list[int]):
    expected = [part for n in lengths for part in ([0] * (n - 2) + [1] * (n >= 2) + [2])]
    assert leave_one_out_parts(np.append(0, np.cumsum(lengths))).tolist() == expected


def test_histories_and_targets_of_leave_one_out():
    sequences = Sequences.from_lists(["u", "v"], [[0, 1, 2, 3], [2, 1, 0]])
    assert [rows.tolist() for rows in sequences.train] == [[0, 1], [2]]
    valid, test = sequences.held_out("valid"), sequences.held_out("test")
    assert [rows.tolist() for rows in valid.histories] == [[0, 1], [2]]
    assert [rows.tolist() for rows in test.histories] == [[0, 1, 2], [2, 1]]
    assert (valid.targets.tolist(), test.targets.tolist()) == ([2, 1], [3, 0])
    assert valid.users.tolist() == test.users.tolist() == [0, 1]


def test_global_time_by_hand():
    users = {"u": [(0, 1), (1, 2), (2, 9), (3, 10)], "v": [(4, 3), (5, 4), (6, 5)], "w": [(7, 8), (8, 10), (9, 10)]}
    # examples are all but first items: times 2, 9, 10, 4, 5, 10, 10 -> sorted 2 4 5 9 10 10 10
    sequences = timed(users, (0.5, 0.25, 0.25))
    # cut at the 3rd (time 9) and the 5th (time 10): ties at 10 stay together
    assert sequences.parts.tolist() == [0, 0, 1, 2, 0, 0, 0, 0, 2, 2]
    assert [rows.tolist() for rows in sequences.train] == [[0, 1], [4, 5, 6], [7]]
    valid, test = sequences.held_out("valid"), sequences.held_out("test")
    assert (valid.users.tolist(), valid.targets.tolist()) == ([0], [2])
    assert [rows.tolist() for rows in valid.histories] == [[0, 1]]
    assert (test.users.tolist(), test.targets.tolist()) == ([0, 2, 2], [3, 8, 9])
    assert [rows.tolist() for rows in test.histories] == [[0, 1, 2], [7], [7, 8]]  # a user may have several tests


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), min_size=2, max_size=8))
def test_no_training_example_is_younger_than_a_held_out_one(users: list[list[int]]):
    ordered = {str(user): [(0, time) for time in sorted(times)] for user, times in enumerate(users)}
    try:
        sequences = timed(ordered, (0.6, 0.2, 0.2))
    except UserError as error:
        assert "data.split=global-time" in str(error)
        return
    by_part = defaultdict(list)
    for user, start in zip(ordered.values(), sequences.offsets[:-1], strict=True):
        parts = sequences.parts[start : start + len(user)]
        assert (np.diff(parts.astype(int)) >= 0).all()
        for (_, time), part in list(zip(user, parts.tolist(), strict=True))[1:]:
            by_part[part].append(time)
    assert max(by_part[0]) < min(by_part[1]) and max(by_part[1]) < min(by_part[2])


def test_shares_are_those_asked_for_when_no_times_tie():
    times = np.random.default_rng(0).permutation(1100).reshape(100, 11)
    users = {str(user): [(0, int(time)) for time in sorted(row)] for user, row in enumerate(times)}
    sequences = timed(users, (0.8, 0.1, 0.1))
    examples = {part: len(sequences.held_out(part)) for part in ("valid", "test")}
    assert examples == {"valid": 100, "test": 100}


def test_relative_times_are_no_global_times():
    with pytest.raises(UserError, match="every user starts at timestamp 0, so the times count from each user's own"):
        timed({"u": [(0, 0), (1, 5)], "v": [(0, 0), (1, 7)]}, (0.8, 0.1, 0.1))
    with pytest.raises(UserError, match="no user has two interactions"):
        timed({"u": [(0, 0)], "v": [(0, 3)]}, (0.8, 0.1, 0.1))
    with pytest.raises(UserError, match="the train part is empty; too many interactions share a time"):
        timed({"u": [(0, 1), (1, 5)], "v": [(0, 3), (1, 5)]}, (0.8, 0.1, 0.1))


def test_an_item_without_a_history_is_no_example():
    sequences = Sequences(
        pl.Series(["u", "v"]),
        np.array([3, 4, 5], np.int32),
        np.array([0, 1, 3]),
        np.array([2, 1, 2], np.uint8),
        "published",
    )
    assert sequences.held_out("test").users.tolist() == [1]
    alone = Sequences(pl.Series(["u"]), np.array([3], np.int32), np.array([0, 1]), np.array([2], np.uint8), "published")
    with pytest.raises(UserError, match="the split published leaves no example for test"):
        alone.held_out("test")


def test_round_trip_maps_the_arrays(tmp_path: Path):
    sequences = timed({"u": [(0, 1), (1, 2), (2, 3)], "v": [(4, 2), (5, 4), (6, 5), (7, 6)]}, (0.4, 0.3, 0.3))
    sequences.save(tmp_path)
    again = Sequences.load(tmp_path)
    assert again.user_ids.to_list() == ["u", "v"] and again.split == "global-time"
    for name in ("items", "offsets", "parts"):
        assert np.array_equal(getattr(again, name), getattr(sequences, name))
        assert getattr(again, name).dtype == getattr(sequences, name).dtype
    assert isinstance(again.items, np.memmap)


def test_samples_are_fixed_ordered_and_distinct():
    examples = Sequences.from_lists([str(n) for n in range(100)], [np.arange(3)] * 100).held_out("test")
    chosen = examples.sample(30, seed=0)
    assert np.array_equal(chosen, examples.sample(30, seed=0))
    assert len(set(chosen)) == 30 and (np.diff(chosen) > 0).all()
    assert examples.sample(None, seed=0).tolist() == examples.sample(500, seed=0).tolist() == [*range(100)]
    taken = examples.take(chosen)
    assert taken.users.tolist() == chosen.tolist() and len(taken.histories) == len(taken) == 30


def test_leading_items_reach_the_last_one_used():
    sequences = Sequences.from_lists(["u", "v", "w"], [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]])
    pieces = sequences.rows.take([0, 1]), sequences.train.take([0, 2])
    assert [rows.tolist() for rows in leading_items(sequences, *pieces)] == [[0, 1, 2, 3], [4, 5, 6], [7]]
    assert [rows.tolist() for rows in leading_items(sequences)] == [[], [], []]


def test_entry_21_fixed_moments():
    """Entry 21: validation and test begin at the moments that are given; what happened then is the later part's."""
    users = {"u": [(0, 1), (1, 5), (2, 6), (3, 9)], "v": [(4, 4), (5, 7)]}
    times = np.array([time for user in users.values() for _, time in user], float)
    offsets = np.array([0, 4, 6])
    assert global_time_parts(offsets, times, (0.8, 0.1, 0.1), (6.0, 9.0)).tolist() == [0, 0, 1, 2, 0, 1]
    for moments, text in (
        ((0.5, 6.0), "the validation would begin at 0.5, and the data reach from 1 to 9"),
        ((6.0, 9.5), "the test would begin at 9.5"),
        ((8.0, 9.0), "the validation part is empty; see data.split_times"),
    ):
        with pytest.raises(UserError, match=text):
            global_time_parts(offsets, times, (0.8, 0.1, 0.1), moments)


@pytest.mark.parametrize(
    ("times", "text"),
    [
        (["2014-02-01", "2014-01-01"], "must rise"),
        (["2014-01-01", "1388534400"], "must rise"),
        (["2014-01-01"], "must be two moments"),
        (["soon", "2014-01-01"], "soon is neither an ISO date nor a number"),
    ],
)
def test_entry_21_moments_that_make_no_sense(times: list[str], text: str):
    """Entry 21: refused where the configuration is read."""
    with pytest.raises(UserError, match=text):
        DataConfig(path="x", split="global-time", split_times=times)
    with pytest.raises(UserError, match=r"is for data\.split=global-time"):
        DataConfig(path="x", split_times=["2014-01-01", "2014-02-01"])


def test_entry_21_moments_are_utc_dates_or_seconds():
    """Entry 21: a date begins at midnight UTC; an offset is minded."""
    config = DataConfig(path="x", split="global-time", split_times=["2014-01-01", "2014-02-01T01:00:00+01:00"])
    assert config.cuts == (1388534400.0, 1391212800.0)
    assert DataConfig(path="x", split="global-time", split_times=["3", "4.5"]).cuts == (3.0, 4.5)
