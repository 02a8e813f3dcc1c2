"""Leave-one-out against an independent reference, with ties in row order."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sources.tables import input_files, read_tables
from datamodules.splits import Sequences, build_sequences
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.console import console


def reference(rows: list[tuple[str, str, float]]) -> dict[str, list[str]]:
    """Ten obvious lines: a list a user, sorted by time, stable."""
    users: dict[str, list[tuple[float, str]]] = {}
    for user, item, timestamp in rows:
        users.setdefault(user, []).append((timestamp, item))
    return {user: [item for _, item in sorted(events, key=lambda event: event[0])] for user, events in users.items()}


def frame(rows: list[tuple[str, str, float]]) -> pl.DataFrame:
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


EVENTS = st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcde"), st.integers(0, 3)), min_size=1)


@given(EVENTS)
def test_against_the_reference(events: list[tuple[str, str, float]]) -> None:
    expected = {user: items for user, items in reference(events).items() if len(items) >= 3}
    items = pl.Series(list("edcba"))
    with console.capture():
        if not expected:
            with pytest.raises(UserError, match="no user has 3"):
                build_sequences(frame(events), items, 3)
            return
        sequences, counts = build_sequences(frame(events), items, 3)
    assert sequences.user_ids == list(expected)
    for user, rows in zip(sequences.user_ids, sequences.rows, strict=True):
        assert [items[int(row)] for row in rows] == expected[user]
    assert counts["dropped_users"] == len({event[0] for event in events}) - len(expected)


def test_split_counts_and_round_trip(tmp_path: Path) -> None:
    events = [("u", item, 0) for item in "abcd"] + [("v", item, time) for time, item in enumerate("cba")]
    with console.capture() as captured:
        sequences, counts = build_sequences(frame([*events, ("w", "a", 1.0)]), pl.Series(list("abcd")), 3)
    assert "1 of 3 users have fewer than 3 interactions" in captured.get()
    assert counts == {"dropped_users": 1, "tied_last_pairs": 1}
    assert [rows.tolist() for rows in sequences.train] == [[0, 1], [2]]
    assert [rows.tolist() for rows in sequences.histories("valid")] == [[0, 1], [2]]
    assert [rows.tolist() for rows in sequences.histories("test")] == [[0, 1, 2], [2, 1]]
    assert sequences.targets("valid").tolist() == [2, 1]
    assert sequences.targets("test").tolist() == [3, 0]
    sequences.save(tmp_path / "sequences.parquet")
    again = Sequences.load(tmp_path / "sequences.parquet")
    assert again.user_ids == sequences.user_ids
    assert all(np.array_equal(a, b) for a, b in zip(again.rows, sequences.rows, strict=True))


def test_user_samples_are_fixed_ordered_and_distinct() -> None:
    sequences = Sequences([str(n) for n in range(100)], [np.arange(3)] * 100)
    chosen = sequences.sample_users(30, seed=0)
    assert np.array_equal(chosen, sequences.sample_users(30, seed=0))
    assert len(set(chosen)) == 30 and (np.diff(chosen) > 0).all()
    assert (
        sequences.sample_users(None, seed=0).tolist() == sequences.sample_users(500, seed=0).tolist() == [*range(100)]
    )


@pytest.mark.skipif("DIG_DATA_ROOT" not in os.environ, reason="DIG_DATA_ROOT names no real data")
def test_beauty_user_by_user() -> None:
    path = Path(os.environ["DIG_DATA_ROOT"]) / "beauty"
    config = DataConfig(path=str(path))
    tables = read_tables(input_files(config), config)
    sequences, counts = build_sequences(tables.interactions, tables.catalogue["item_id"], 3)
    with gzip.open(path / "interactions.csv.gz", "rt") as stream:
        rows = [(row["user_id"], row["item_id"], float(row["timestamp"])) for row in csv.DictReader(stream)]
    expected = reference(rows)
    ids = tables.catalogue["item_id"].to_list()
    assert sequences.user_ids == list(expected)
    for user, row, target in zip(sequences.user_ids, sequences.rows, sequences.targets("test"), strict=True):
        assert [ids[item] for item in row] == expected[user]
        assert ids[target] == expected[user][-1]
    assert counts["tied_last_pairs"] / len(sequences) == pytest.approx(0.43, abs=0.005)
