"""From tables to sequences: order, filters, splits and counts, against independent references."""

from __future__ import annotations

import csv
import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.preparation import Prepared, _chronological, prepare
from datamodules.sources import read_source
from datamodules.sources.base import CATALOGUE_SCHEMA, INTERACTION_SCHEMA, Tables
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.engine.console import console

Events = list[tuple[str, str, float]]
EVENTS = st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcde"), st.integers(0, 3)), min_size=1)


def reference(rows: Events) -> dict[str, list[str]]:
    """Ten obvious lines: a list per user, sorted by time, stable; the last is the test, the last but one validation."""
    users: dict[str, list[tuple[float, str]]] = {}
    for user, item, timestamp in rows:
        users.setdefault(user, []).append((timestamp, item))
    return {user: [item for _, item in sorted(events, key=lambda event: event[0])] for user, events in users.items()}


def tables(events: Events, items: str = "edcba", parts: list[int] | None = None) -> Tables:
    frame = pl.DataFrame(events, schema=INTERACTION_SCHEMA, orient="row")
    if parts is not None:
        frame = frame.with_columns(pl.Series("part", parts, pl.UInt8))
    rows = [{"item_id": item, "title": item} for item in items]
    return Tables(frame, pl.DataFrame(rows, schema=CATALOGUE_SCHEMA))


def named(prepared: Prepared) -> dict[str, list[str]]:
    ids = prepared.catalogue["item_id"].to_list()
    users = zip(prepared.sequences.user_ids, prepared.sequences.rows, strict=True)
    return {user: [ids[row] for row in rows] for user, rows in users}


@given(EVENTS)
def test_order_against_the_reference(events: Events):
    expected = {user: items for user, items in reference(events).items() if len(items) >= 3}
    with console.capture():
        if not expected:
            with pytest.raises(UserError, match=r"no user has 3 interactions, which data\.min_interactions asks for"):
                prepare(tables(events), DataConfig())
            return
        prepared = prepare(tables(events), DataConfig())
    assert named(prepared) == expected
    assert list(named(prepared)) == list(expected)  # users by first appearance
    short = len({event[0] for event in events}) - len(expected)
    assert prepared.statistics["short_users"] == short
    assert prepared.catalogue["item_id"].to_list() == list("edcba")  # items without interactions can be recommended
    assert prepared.sequences.items.dtype == np.int32


def test_what_is_left_out_is_said():
    events = [("u", item, 0) for item in "abcd"] + [("v", item, time) for time, item in enumerate("cba")]
    with console.capture() as captured:
        prepared = prepare(tables([*events, ("w", "a", 1.0)]), DataConfig())
    shown = captured.get()
    assert "1 of 3 users have fewer than 3 interactions (data.min_interactions); they and their 1 inter" in shown
    found = prepared.statistics
    assert (found["users"], found["items"], found["interactions"], found["rows_read"]) == (2, 5, 7, 8)
    assert found["tied_last_pairs"] == 1 and found["tied_pairs"] == 3 and found["same_day_last_pairs"] == 2
    assert found["examples"] == {"valid": 2, "test": 2} and found["split"] == "leave-one-out"


def test_duplicates_and_core_are_applied_in_this_order_and_counted():
    events: Events = [(user, item, time) for user in "uvw" for time, item in enumerate("abc")]
    events += [("u", "a", 9.0), ("v", "d", 9.0), ("x", "a", 0.0), ("x", "a", 1.0), ("x", "a", 2.0)]
    with console.capture() as captured:
        prepared = prepare(tables(events), DataConfig(duplicates="first", k_core=3))
    shown = captured.get()
    assert "3 repeated interactions are left out (data.duplicates=first)" in shown
    assert "3-core: 1 users, 1 items and 2 interactions are left out" in shown
    assert named(prepared) == {user: list("abc") for user in "uvw"}
    assert prepared.catalogue["item_id"].to_list() == list("cba")  # a core leaves no item without interactions
    assert prepared.statistics["duplicates"] == {"policy": "first", "repeated": 3, "dropped": 3}
    assert prepared.statistics["k_core"] == {"k": 3, "rounds": 2, "users": 1, "items": 1, "interactions": 2}


@given(EVENTS, st.integers(2, 4))
def test_everything_left_of_a_core_has_enough(events: Events, k: int):
    with console.capture():
        try:
            prepared = prepare(
                tables(events),
                DataConfig(k_core=k, min_interactions=1, split="leave-one-out") if k >= 3 else DataConfig(k_core=k),
            )
        except UserError:
            return
    rows = prepared.sequences.rows
    assert min(Counter(prepared.sequences.items.tolist()).values()) >= min(k, 1)
    assert min(len(row) for row in rows) >= 3
    assert sorted(set(prepared.sequences.items.tolist())) == list(range(len(prepared.catalogue)))


def test_repeated_items_are_counted_even_when_kept():
    prepared = prepare(tables([("u", item, time) for time, item in enumerate("aabca")]), DataConfig())
    assert prepared.statistics["duplicates"] == {"policy": "keep", "repeated": 2, "dropped": 0}
    assert named(prepared) == {"u": list("aabca")}


def test_only_items_with_interactions_are_ranked_on_request():
    events: Events = [("u", item, time) for time, item in enumerate("abca")]
    with console.capture() as captured:
        prepared = prepare(tables(events), DataConfig(catalogue="interacted"))
    assert "2 of 5 items have no interaction left and leave the catalogue" in captured.get()
    assert prepared.catalogue["item_id"].to_list() == list("cba") and named(prepared) == {"u": list("abca")}


def test_the_published_split_is_taken_as_it_is():
    events: Events = [("u", "a", 1), ("u", "b", 2), ("v", "c", 1), ("u", "c", 2), ("v", "a", 5)]
    config = DataConfig(split="published", min_interactions=2)
    prepared = prepare(tables(events, parts=[0, 0, 0, 1, 2]), config)
    assert prepared.sequences.parts.tolist() == [0, 0, 1, 0, 2]
    assert prepared.sequences.held_out("test").users.tolist() == [1]
    with pytest.raises(UserError, match=r"1 interactions of the training part are younger than held-out ones"):
        prepare(tables(events, parts=[0, 1, 0, 0, 2]), config)
    with pytest.raises(
        UserError, match=r"data\.split=published, but data\.source=tables at None comes without a split"
    ):
        prepare(tables(events), config)


def test_global_time_counts_examples():
    events: Events = [
        (user, "abcde"[time % 5], 10 * time + shift) for shift, user in enumerate("uvw") for time in range(8)
    ]
    prepared = prepare(tables(events), DataConfig(split="global-time", split_fractions=[0.6, 0.2, 0.2]))
    examples = prepared.statistics["examples"]
    assert examples == {"valid": 4, "test": 5}
    assert prepared.slices.group_by("part").len().sort("part")["len"].to_list() == [5, 4]


@pytest.mark.skipif("DIG_DATA_ROOT" not in os.environ, reason="DIG_DATA_ROOT names no real data")
def test_beauty_user_by_user():
    path = Path(os.environ["DIG_DATA_ROOT"]) / "beauty"
    prepared = prepare(read_source(DataConfig(path=str(path))), DataConfig(path=str(path)))
    with gzip.open(path / "interactions.csv.gz", "rt") as stream:
        expected = reference(
            [(row["user_id"], row["item_id"], float(row["timestamp"])) for row in csv.DictReader(stream)]
        )
    assert named(prepared) == expected and list(named(prepared)) == list(expected)
    ids = prepared.catalogue["item_id"].to_list()
    for part, cut in (("valid", -2), ("test", -1)):
        examples = prepared.sequences.held_out(part)
        assert len(examples) == len(expected) == 22_363
        for items, history, target in zip(expected.values(), examples.histories, examples.targets, strict=True):
            assert [ids[row] for row in history] == items[:cut] and ids[target] == items[cut]
    assert [[ids[row] for row in rows] for rows in prepared.sequences.train] == [row[:-2] for row in expected.values()]
    found = prepared.statistics
    assert (found["items"], found["interactions"]) == (12_101, 198_502)
    assert found["same_day_last_pairs"] / found["users"] == pytest.approx(0.43, abs=0.005)
    # the published files are 5-core already
    assert prepare(read_source(DataConfig(path=str(path))), DataConfig(k_core=5)).statistics["k_core"]["users"] == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 3)), min_size=1), st.sampled_from([1.0, 0.5, 1e15]))
def test_both_ways_of_sorting_are_stable(events: list[tuple[int, int]], unit: float):
    users = np.array([user for user, _ in events], np.uint32)
    times = np.array([time * unit for _, time in events])
    assert _chronological(users, times).tolist() == np.lexsort((times, users)).tolist()
