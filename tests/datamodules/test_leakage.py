"""The guard of held-out items, by hand and on Beauty's leaking user texts."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from datamodules.leakage import SEEN_FILE, find_leaks, guard, guard_artifact, write_items_seen
from datamodules.preparation import prepare
from datamodules.sources import read_source
from datamodules.splits import Sequences
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.engine.console import console
from dig.interests import read_user_interests

IDS = pl.Series("item_id", list("abcdef"))
SEQUENCES = Sequences.from_lists(["u", "v", "w"], [[0, 1, 2, 3], [0, 4, 5], [0, 0, 1, 0]])


def seen(rows: list[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame({"user_id": [user for user, _ in rows], "items_seen": [list(items) for _, items in rows]})


def test_test_items_count_before_validation_items():
    found = find_leaks(seen([("u", "abcd"), ("v", "ae"), ("w", "aa")]), SEQUENCES, IDS)
    assert (found.test, found.valid, found.clean_users) == (1, 1, 1)
    assert found.leaked.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("items", "leaked"),
    [("ab", False), ("abd", True), ("abc", True), ("", False), ("f", False), ("xyz", False), ("bad", True)],
)
def test_one_user(items: str, leaked: bool):
    assert find_leaks(seen([("u", items)]), SEQUENCES, IDS).leaked.tolist() == [leaked]


def test_a_repeated_item_leaks_when_it_was_seen_more_often_than_it_was_trained():
    # w buys a, a, then b, and a again as the test
    assert find_leaks(seen([("w", "aa")]), SEQUENCES, IDS).test == 0
    assert find_leaks(seen([("w", "aaa")]), SEQUENCES, IDS).test == 1


def test_strangers_and_other_users_items_cannot_leak():
    found = find_leaks(seen([("nobody", "abcdef"), ("v", "bcd")]), SEQUENCES, IDS)
    assert not found.leaked.any() and found.clean_users == 2


def test_refuse_says_how_many_and_drop_drops_every_row_of_a_user():
    table = seen([("u", "abcd"), ("u", "a"), ("v", "a"), ("w", "b")])
    with pytest.raises(
        UserError,
        match=r"x saw held-out items: the test items of 1 users, the validation items of 1 "
        r"more; .* data.leaks=drop keeps the 1 clean users",
    ):
        guard("x", table, SEQUENCES, IDS, "refuse")
    with console.capture() as captured:
        assert guard("x", table, SEQUENCES, IDS, "drop").tolist() == [False, False, True, False]
    assert "they are left out (data.leaks=drop), 1 clean users are kept" in captured.get()
    with pytest.raises(UserError, match="no user is clean"):
        guard("x", table[:2], SEQUENCES, IDS, "drop")
    assert guard("x", table[2:3], SEQUENCES, IDS, "refuse").tolist() == [True]


def test_an_artifact_records_what_it_saw_and_is_refused_for_it(tmp_path: Path):
    with pytest.raises(UserError, match="sft does not record which items it saw"):
        guard_artifact("sft", tmp_path, SEQUENCES, IDS)
    write_items_seen(tmp_path, SEQUENCES, SEQUENCES.train, IDS)
    rows = pl.read_parquet(tmp_path / SEEN_FILE).rows()
    assert rows == [("u", ["a", "b"]), ("v", ["a"]), ("w", ["a", "a"])]
    guard_artifact("sft", tmp_path, SEQUENCES, IDS)
    write_items_seen(tmp_path, SEQUENCES, SEQUENCES.held_out("test").histories, IDS)  # validation items were learned
    with pytest.raises(UserError, match="the test items of 0 users, the validation items of 3 more"):
        guard_artifact("sft", tmp_path, SEQUENCES, IDS)


@pytest.mark.skipif("DIG_DATA_ROOT" not in os.environ, reason="DIG_DATA_ROOT names no real data")
def test_beautys_user_texts_leak():
    path = Path(os.environ["DIG_DATA_ROOT"]) / "beauty"
    prepared = prepare(read_source(DataConfig(path=str(path))), DataConfig(path=str(path)))
    sequences, ids = prepared.sequences, prepared.catalogue["item_id"]
    texts = read_user_interests(path / "user_interests.jsonl.gz", sequences.user_ids.to_list()).interests
    assert len(texts) == 22_363
    with pytest.raises(UserError, match=r"the test items of 20,436 users, the validation items of 207 more; .* 1,720"):
        guard("user_interests.jsonl.gz", texts, sequences, ids, "refuse")
    with console.capture():
        kept = texts.filter(guard("user_interests.jsonl.gz", texts, sequences, ids, "drop"))
    assert len(kept) == 1_720
    tests = sequences.held_out("test")
    targets = dict(zip(sequences.user_ids.gather(tests.users), ids.gather(tests.targets), strict=True))
    assert not any(targets[user] in items for user, items in kept.select("user_id", "items_seen").iter_rows())
