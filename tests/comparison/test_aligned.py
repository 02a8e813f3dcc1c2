"""Rankings of another program on a run's test users and targets, measured as the run's own."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from comparison.conftest import ONE_HOP, TARGETS, USERS
from support.run_folders import ITEMS, rankings, write_examples, write_run

from dig.comparison.contest import Contest, find_contests
from dig.comparison.measure import measure
from dig.comparison.render import csv_text, latex, markdown, text
from dig.comparison.request import ComparisonRequest
from dig.config import UserError

OURS = rankings(TARGETS, 0.5, seed=3)
HISTORIES = [[ITEMS[(number + step) % 50] for step in range(3)] for number in range(200)]


def without(lists: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[item for item in row if item not in history] for row, history in zip(lists, HISTORIES, strict=True)]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with both protocols, histories and a catalogue."""
    monkeypatch.chdir(tmp_path)
    return write_run(
        Path("runs/shop/a1"),
        USERS,
        TARGETS,
        {"sft": OURS},
        masked={"sft": without(OURS)},
        one_hop=ONE_HOP,
        histories=HISTORIES,
        catalogue=ITEMS,
    )


def table(lists: Sequence[Sequence[str]], users: Sequence[Any] = USERS, **more: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame({"user": users, "items": [list(row) for row in lists], **more}, strict=False)


def contests(theirs: Any, *runs: str, **asked: Any) -> list[Contest]:
    tables: Mapping[str, Any] = theirs if isinstance(theirs, dict) else {"theirs": theirs}
    return find_contests(ComparisonRequest(runs or ("shop:sft",), tables=tables, **asked))


def refusal(theirs: Any, *runs: str, code: int = 2, **asked: Any) -> str:
    with pytest.raises(UserError) as caught:
        contests(theirs, *runs, **asked)
    assert caught.value.exit_code == code and "\n" not in str(caught.value)
    return str(caught.value)


def own_notes(contest: Contest) -> list[str]:
    return [note for note in contest.notes if "theirs" in note]


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl", "trec", "long"])
def test_a_runs_own_lists_come_back_with_the_same_numbers(shop: Path, form: str):
    """Newcomers 8: another program's file is a row; our own lists in its form differ from ours in nothing."""
    order = np.random.default_rng(0).permutation(200)
    frame = table(OURS)[order]
    path = Path("theirs." + {"long": "csv", "trec": "run"}.get(form, form))
    if form == "parquet":
        frame.write_parquet(path)
    elif form == "csv":
        frame.with_columns(pl.col("items").list.join("|")).write_csv(path)
    elif form == "jsonl":
        frame.write_ndjson(path)
    else:
        rows = frame.explode("items").with_columns(rank=pl.int_range(1, pl.len() + 1).over("user"))
        rows = rows.with_columns(score=1 / pl.col("rank")).rename({"items": "item_id"}).sample(fraction=1, shuffle=True)
        if form == "long":
            rows.select("user", "item_id", "score").write_csv(path)
        else:
            path.write_text(
                "".join(
                    f"{user} Q0 {item} {rank} {score} me\n"
                    for user, item, rank, score in rows.select("user", "item_id", "rank", "score").iter_rows()
                )
            )
    both = find_contests(ComparisonRequest(("shop:sft", str(path))))
    assert [contest.masked for contest in both] == [False, True]
    for contest in both:
        assert [row.label for row in contest.rows] == ["sft", "theirs"]
        assert np.array_equal(contest.rows[0].ranks, contest.rows[1].ranks)
        assert list(contest.slices) == ["beneficiary", "non-beneficiary"]
    cells = measure(both[0], draws=200, seed=0).cells
    assert [cell.value for cell in cells[0]] == [cell.value for cell in cells[1]]
    assert all(one.gain.difference == 0 and one.gain.p_value == 1 for one in (*cells[0], *cells[1]) if one.gain)


def test_users_without_a_list_are_misses_and_said(shop: Path):
    short = table(OURS[20:], USERS[20:])
    (contest, _) = contests(short)
    assert contest.rows[1].ranks[0][:20].tolist() == [-1] * 20
    assert np.array_equal(contest.rows[1].ranks[0][20:], contest.rows[0].ranks[0][20:])
    assert "theirs has no list for 20 of 200 examples, which count as misses; --missing drop leaves them" in str(
        contest.notes
    )
    assert not any("fewer" in note for note in contest.notes)
    empty = table([[]] * 20 + OURS[20:])  # an empty list counts as none
    assert np.array_equal(contests(empty)[0].rows[1].ranks, contest.rows[1].ranks)
    assert contests(empty)[0].notes == contest.notes


def test_missing_drop_measures_every_row_on_the_others(shop: Path):
    theirs = {"theirs": table(OURS[20:], USERS[20:]), "more": table(OURS[:150], USERS[:150])}
    (contest, _) = contests(theirs, missing="drop")
    whole = contests(table(OURS))[0]
    for row in contest.rows:
        assert np.array_equal(row.ranks, whole.rows[0].ranks[:, 20:150])
    assert len(contest.users) == 130 and all(len(mask) == 130 for mask in contest.slices.values())
    assert "70 of 200 examples are left out of every row, because theirs or more has no list" in str(contest.notes)
    assert np.array_equal(contests(table(OURS), missing="drop")[0].rows[1].ranks, whole.rows[1].ranks)
    halves = {"theirs": table(OURS[:9], USERS[:9]), "more": table(OURS[9:], USERS[9:])}
    assert "--missing drop: for every example one of theirs, more has no list" in refusal(halves, missing="drop")


def test_users_of_another_test_are_left_out(shop: Path):
    (contest, _) = contests(table([*OURS, ["item001"], ["nothing"]], [*USERS, "z1", "z2"]))
    assert own_notes(contest)[0] == "theirs: 2 users not in the test left out, such as z1"
    assert not any("catalogue" in note for note in contest.notes)


def test_short_lists_duplicates_and_unknown_items_keep_or_lose_their_places(shop: Path):
    lists = [[target] for target in TARGETS]
    lists[0] = ["gone", "item000" if TARGETS[0] != "item000" else "item001", TARGETS[0]]
    lists[1] = [(other := "item007" if TARGETS[1] != "item007" else "item008"), other, other, TARGETS[1], other]
    (contest, *_) = contests(table(lists), protocol="unmasked")
    assert contest.rows[1].ranks[0][:3].tolist() == [2, 1, 0]
    assert {
        "theirs: 1 item that the catalogue does not have, such as gone, in 1 place",
        "theirs: 3 places that repeat an item are taken out",
        "theirs ranks fewer than 10 items for 200 users, whose missing places are misses",
    } <= set(contest.notes)


def test_equal_scores_are_ranked_as_dig_ranks_its_own(shop: Path):
    """A constant scorer's first place is the catalogue's, whatever order the rows are in."""
    rows = [(user, item, 1.0) for user in USERS for item in ("item004", "zz", "item002", "item003")]
    frame = pl.DataFrame(rows, schema=["user", "item", "score"], orient="row")
    (contest, *_) = contests(frame, protocol="unmasked")
    expected = {"item002": 0, "item003": 1, "item004": 2}
    assert contest.rows[1].ranks[0].tolist() == [expected.get(target, -1) for target in TARGETS]
    assert "theirs: equal scores of 200 users are ranked in the order of the catalogue" in contest.notes


def test_items_of_the_history_compete_or_are_taken_out(shop: Path):
    kept, masked = contests(table(OURS))
    places = sum(item in history for row, history in zip(OURS, HISTORIES, strict=True) for item in row)
    assert f"theirs: items of the history are in {places} places, where they compete" in kept.notes
    assert any(
        note.startswith(f"theirs: {places} places with items of the history are taken out of the lists of")
        for note in masked.notes
    )
    slow = [row.index(target) if target in row else -1 for row, target in zip(without(OURS), TARGETS, strict=True)]
    assert masked.rows[1].ranks[0].tolist() == slow


def test_lists_that_were_masked_are_in_the_masked_table_only(shop: Path):
    (contest,) = contests(table(without(OURS)))
    assert contest.masked and np.array_equal(contest.rows[0].ranks, contest.rows[1].ranks)
    (contest,) = contests(table(without(OURS)), protocol="unmasked")
    assert "theirs: no list holds an item of its history, so they were masked; other rows are not" in contest.notes
    kept, masked = contests({"theirs": table(without(OURS)), "more": table(OURS)})
    assert [row.label for row in kept.rows] == ["sft", "more"]
    assert [row.label for row in masked.rows] == ["sft", "theirs", "more"]
    assert "theirs lists no item of any history, so it is in the table without them only" in kept.notes


def test_without_histories_nothing_is_taken_out_and_that_is_said(shop: Path):
    (shop / "examples.parquet").unlink()
    kept, masked = contests(table(OURS))
    assert np.array_equal(kept.rows[1].ranks, masked.rows[1].ranks)
    assert "theirs: the run does not tell histories, so whether the lists leave them out is not known" in kept.notes


@pytest.mark.parametrize(
    ("users", "items", "expected"),
    [
        ([101, 102, 103], [[7, 8], [8, 9], [9, 7]], None),
        ([101.0, 102.0, 103.0], [[7.0, 8.0], [8.0, 9.0], [9.0, 7.0]], None),
        (["101.0", "102.0", "103.0"], [["7.0", "8.0"], ["8.0", "9.0"], ["9.0", "7.0"]], "3 user ids are read without"),
        (["101.", "102.", "103."], [["7.", "8."], ["8.", "9."], ["9.", "7."]], "3 user ids are read without"),
        ([" 101", "102 ", "103"], [["7", "8"], ["8", "9 "], ["9", "7"]], "2 user ids are read without decimals or"),
    ],
)
def test_an_id_is_the_same_as_number_and_as_text(
    tmp_path: Path, users: list[Any], items: list[Any], expected: str | None
):
    """'12', 12 and 12.0 are one id; '012' is another."""
    run = write_run(
        tmp_path / "runs/ids/a1",
        ["101", "102", "103"],
        ["7", "9", "7"],
        {"sft": [["7"]] * 3},
        catalogue=["7", "8", "9"],
    )
    (contest,) = contests(table(items, users), str(run))
    assert contest.rows[1].ranks[0].tolist() == [0, 1, 1]
    assert (
        any(expected in note for note in contest.notes)
        if expected
        else not any("read without" in note for note in contest.notes)
    )


def test_an_id_that_looks_like_a_decimal_is_itself(tmp_path: Path):
    run = write_run(tmp_path / "runs/ids/a1", ["1", "1.0"], ["7", "7.0"], {"sft": [["7"]] * 2}, catalogue=["7", "7.0"])
    (contest,) = contests(table([["7.0", "7"], ["7.0", "7"]], ["1", "1.0"]), str(run))
    assert contest.rows[1].ranks[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (
            table(OURS[:2], ["USER000", "USER001"]),
            "none of its 2 users is among those of the test of shop: ids differ "
            "by capital letters, such as USER000 there and user000 here",
        ),
        (table(OURS[:2], [0, 1]), "a prefix or other signs around a number, such as "),
        (table(OURS[:2], ["anna", "bert"]), "none of its 2 users is among those of the test of shop: anna there, "),
        (table([["3", "4"]] * 200), "none of its 2 items is in the catalogue of shop: ids differ by a prefix or other"),
        (table([["shoe"]] * 200), "none of its 1 item is in the catalogue of shop: shoe there, item000 here"),
        (table([[]] * 200), "all its lists are empty"),
        (table(OURS[:3], ["user000", "user001", "user000"]), "user user000 has several lists; one per user"),
        (
            table(OURS, target=["item049", *TARGETS[1:]]),
            f"1 of 200 targets are not those of shop, such as item049 and "
            f"not {TARGETS[0]} for user user000; the data or the split",
        ),
        (table(OURS[:2], ["user000"] * 2, target=["item001", "item002"]), "has several lists with different targets"),
        ({"": 3}, "rankings are a file, a DataFrame or lists by user, not a int"),
        ({"theirs": "nowhere.csv"}, "nowhere.csv: no such file"),
        ({"theirs": Path("nowhere.parquet")}, "nowhere.parquet: no such file"),
    ],
)
def test_rankings_of_something_else_are_one_line(shop: Path, theirs: Any, expected: str):
    assert expected in refusal(theirs)


def test_users_that_were_counted_from_0_raise_a_doubt(tmp_path: Path):
    """Another program's own numbers are ids of other users, shifted by one."""
    users = [str(number) for number in range(1, 41)]
    run = write_run(tmp_path / "runs/ids/a1", users, ["7"] * 40, {"sft": [["7"]] * 40}, catalogue=["7"])
    (contest,) = contests(table([["7"]] * 40, range(40)), str(run))
    assert any(
        note.startswith("theirs: its users are 0 to 39 without a gap, and the run's continue to 40: if these are")
        for note in contest.notes
    )
    (contest,) = contests(table([["7"]] * 60, range(1, 61)), str(run))  # a test of some of the users
    assert not any("without a gap" in note for note in contest.notes)


def test_leading_zeros_are_named(tmp_path: Path):
    run = write_run(tmp_path / "runs/ids/a1", ["007", "008"], ["1", "1"], {"sft": [["1"]] * 2}, catalogue=["1"])
    assert "ids differ by leading zeros, such as 7 there and 007 here" in refusal(table([["1"]], [7]), str(run))


def test_a_row_needs_a_name_of_its_own_and_a_run(shop: Path):
    for folder in ("one", "two"):
        Path(folder).mkdir()
        table(OURS).write_parquet(f"{folder}/theirs.parquet")
    assert "name a run, too: one/theirs.parquet is measured on a run's test users" in refusal_of("one/theirs.parquet")
    said = refusal_of("shop", "one/theirs.parquet", "two/theirs.parquet")
    assert said == "theirs is the name of two rows; two/theirs.parquet needs another"
    (contest, _) = find_contests(
        ComparisonRequest(("shop:sft", "a, b|c=one/theirs.parquet", "$\\x_2$=two/theirs.parquet"))
    )
    assert [row.label for row in contest.rows] == ["sft", "a, b|c", "$\\x_2$"]
    (contest, _) = find_contests(ComparisonRequest(("shop:sft", "one/theirs.parquet", "one/theirs.parquet")))
    assert [row.label for row in contest.rows] == ["sft", "theirs"]


def refusal_of(*runs: str) -> str:
    with pytest.raises(UserError) as caught:
        find_contests(ComparisonRequest(runs))
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_every_format_shows_the_row(shop: Path):
    (contest, _) = contests({"it's [red]_x_, & 50 %": table(OURS[5:], USERS[5:])})
    comparison = [measure(contest, draws=200, seed=0)]
    assert "it's [red]_x_, & 50 %" in text(comparison)
    assert r"it's \[red\]\_x\_, & 50 %" in markdown(comparison)
    assert r"it's [red]\_x\_, \& 50 \%" in latex(comparison)
    records = list(csv.DictReader(csv_text(comparison).splitlines()))
    theirs = [record for record in records if record["row"] == "it's [red]_x_, & 50 %"]
    assert {(record["experiment"], record["training_seed"]) for record in theirs} == {("", "")}
    hr = next(float(record["value"]) for record in theirs if record["metric"] == "hr@10")
    hits = [target in row[:10] for row, target in zip(OURS[5:], TARGETS[5:], strict=True)]
    assert math.isclose(hr, sum(hits) / 200)


def test_the_validation_has_its_own_users(shop: Path):
    others = [ITEMS[(ITEMS.index(target) + 1) % 50] for target in TARGETS]
    (shop / "recommendations_valid.parquet").write_bytes((shop / "recommendations.parquet").read_bytes())
    frame = pl.read_parquet(shop / "recommendations_valid.parquet").with_columns(target=pl.Series(others))
    frame.write_parquet(shop / "recommendations_valid.parquet")
    write_examples(shop / "examples_valid.parquet", USERS, others, ONE_HOP, HISTORIES)
    (contest,) = contests(table([[target] for target in others]), part="valid", protocol="unmasked")
    assert contest.rows[1].ranks[0].tolist() == [0] * 200


def test_of_users_with_several_examples_each_list_says_which_it_answers(tmp_path: Path):
    users, targets = ["u", "u", "u", "v"], ["a", "b", "b", "a"]
    run = write_run(
        tmp_path / "runs/timed/a1", users, targets, {"sft": [["a"]] * 4}, split="global-time", catalogue=["a", "b"]
    )
    lists = [["b", "a"], ["b"], ["a", "b"], ["a"]]
    assert "users have several examples in the test of" in refusal(table(lists[1:3], ["u", "v"]), str(run))
    told = table(lists, users, target=targets, example=[0, 1, 2, 3])
    (contest,) = contests(told[[3, 2, 1, 0]], str(run))
    assert contest.rows[1].ranks[0].tolist() == [1, 0, 1, 0]
    assert "user u has several lists; one per example" in refusal(told.drop("example"), str(run))
    (contest,) = contests(told[[0, 3]], str(run))
    assert contest.rows[1].ranks[0].tolist() == [1, -1, -1, 0]


def test_beside_means_over_seeds_it_is_a_row_of_its_own(shop: Path):
    write_run(
        Path("runs/shop/b2"), USERS, TARGETS, {"sft": rankings(TARGETS, 0.5, seed=4)}, seed=43, masked={"sft": OURS}
    )
    (contest, _) = contests(table(OURS), seeds="mean")
    assert [(row.label, row.seeds) for row in contest.rows] == [("sft", (42, 43)), ("theirs", (None,))]
    said = text([measure(contest, draws=200, seed=0)])
    assert "Means over training seeds (42, 43)" in said and "None" not in said
