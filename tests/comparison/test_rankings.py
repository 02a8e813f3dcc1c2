"""Rankings become places of targets, and what is wrong with them is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.run_folders import rankings, targets_of, write_examples, write_rankings

from dig.comparison.rankings import Ranking, read_rankings, read_slices, require_same_examples
from dig.comparison.runs import ComparedRun
from dig.config import UserError

USERS = [f"user{number:02}" for number in range(30)]
TARGETS = targets_of(USERS)


def run(folder: Path, *stages: str) -> ComparedRun:
    path = folder / "recommendations.parquet"
    return ComparedRun("mine", folder, stages, "beauty", 42, None, (5, 10), {False: path})


def read(folder: Path, *stages: str) -> list[Ranking]:
    return list(read_rankings(run(folder, *stages), masked=False))


def test_places_are_those_of_a_slow_search_whatever_the_order_of_the_file(tmp_path: Path):
    items = rankings(TARGETS, 0.6, seed=1)
    order = np.random.default_rng(0).permutation(len(USERS))
    write_rankings(
        tmp_path / "recommendations.parquet",
        [USERS[row] for row in order],
        [TARGETS[row] for row in order],
        {"sft": [items[row] for row in order]},
    )
    (found,) = read(tmp_path)
    assert found.users.to_list() == USERS and found.targets.to_list() == TARGETS
    assert found.items.to_list() == items
    slow = [row.index(target) if target in row else -1 for row, target in zip(items, TARGETS, strict=True)]
    assert found.ranks.tolist() == slow and found.lengths.tolist() == [20] * 30


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(st.lists(st.sampled_from("abc"), max_size=4), min_size=1, max_size=6))
def test_short_and_empty_rankings_and_items_named_twice(tmp_path_factory: pytest.TempPathFactory, rows):
    folder = tmp_path_factory.mktemp("run")
    users = [f"u{number}" for number in range(len(rows))]
    write_rankings(folder / "recommendations.parquet", users, ["b"] * len(rows), {"sft": rows})
    (found,) = read(folder)
    assert found.ranks.tolist() == [row.index("b") if "b" in row else -1 for row in rows]
    assert found.lengths.tolist() == [len(row) for row in rows]


def test_stages_come_in_the_order_of_the_file_or_of_the_question(tmp_path: Path):
    stages = {name: rankings(TARGETS, 0.1, seed) for seed, name in enumerate(("popularity", "sasrec", "sft"))}
    write_rankings(tmp_path / "recommendations.parquet", USERS, TARGETS, stages)
    assert [found.stage for found in read(tmp_path)] == ["popularity", "sasrec", "sft"]
    found = read(tmp_path, "sft", "sasrec")
    assert [one.name for one in found] == ["mine:sft", "mine:sasrec"]
    assert found[0].items.to_list() == stages["sft"]
    with pytest.raises(UserError, match="mine holds no rankings of sasrek; did you mean sasrec") as caught:
        read(tmp_path, "sasrek")
    assert caught.value.exit_code == 2


def test_of_a_users_examples_with_one_target_the_number_decides(tmp_path: Path):
    """The same item bought three times, in files that hold the examples in different order."""
    items = [["b"], ["a", "b"], ["c"]]
    for folder, order in (("one", [0, 1, 2]), ("other", [2, 0, 1])):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "recommendations.parquet"
        write_rankings(path, ["u"] * 3, ["b"] * 3, {"sft": items})
        pl.read_parquet(path)[order].write_parquet(path)
    one, other = (read(tmp_path / folder)[0] for folder in ("one", "other"))
    assert one.ranks.tolist() == other.ranks.tolist() == [0, 1, -1]


def damaged(folder: Path, how: str) -> None:
    path = folder / "recommendations.parquet"
    write_rankings(path, USERS, TARGETS, {"sft": rankings(TARGETS, 0.5, 1)})
    frame, content = pl.read_parquet(path), path.read_bytes()
    scores = frame["scores"].to_list()
    if how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif how == "overwritten":
        path.write_bytes(b"no parquet at all")
    elif how == "nothing":
        path.write_bytes(b"")
    elif how == "no column":
        frame.drop("items").write_parquet(path)
    elif how == "another type":
        frame.with_columns(items=pl.lit(3)).write_parquet(path)
    elif how == "a hole":
        frame.with_columns(target=pl.when(pl.col("user") == "user03").then(None).otherwise("target")).write_parquet(
            path
        )
    elif how == "no user":
        frame.clear().write_parquet(path)
    elif how in ("nan", "null", "several"):
        bad = float("nan") if how != "null" else None
        for row in (7, 9) if how == "several" else (7,):
            scores[row][3] = bad
        frame.with_columns(scores=pl.Series(scores, dtype=pl.List(pl.Float64))).write_parquet(path)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("cut off", "recommendations.parquet cannot be read: "),
        ("overwritten", "recommendations.parquet cannot be read: "),
        ("nothing", "recommendations.parquet cannot be read: it is "),
        ("no column", "it has no column items; evaluate again: python -m dig.train experiment="),
        ("another type", "recommendations.parquet"),
        ("a hole", "recommendations.parquet cannot be read: row 4 has no target"),
        ("no user", "holds no user: the test of mine is empty"),
        ("nan", "mine:sft scores an item with no number for user user07: its model"),
        ("null", "mine:sft scores an item with no number for user user07: its model"),
        ("several", "for user user07 (and for 1 more): its model"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, how: str, expected: str):
    damaged(tmp_path, how)
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_different_users_are_counted_and_one_is_named(tmp_path: Path):
    for folder, users in (("one", USERS), ("other", [*USERS[3:], "z1", "z2"])):
        (tmp_path / folder).mkdir()
        write_rankings(
            tmp_path / folder / "recommendations.parquet",
            users,
            ["item001"] * len(users),
            {"sft": [["item001"]] * len(users)},
        )
    one, other = (read(tmp_path / folder)[0] for folder in ("one", "other"))
    with pytest.raises(UserError, match="3 of 30 are in the first only, 2 of 29 in the second only, such as user00;"):
        require_same_examples(one, other)
    with pytest.raises(UserError, match="2 of 29 are in the first only, 3 of 30 in the second only, such as z1;"):
        require_same_examples(other, one)


def test_different_targets_are_counted_and_one_is_named(tmp_path: Path):
    others = [
        "item049" if user in ("user04", "user11") else target for user, target in zip(USERS, TARGETS, strict=True)
    ]
    for folder, targets in (("one", TARGETS), ("other", others)):
        (tmp_path / folder).mkdir()
        write_rankings(tmp_path / folder / "recommendations.parquet", USERS, targets, {"sft": [["item001"]] * 30})
    one, other = (read(tmp_path / folder)[0] for folder in ("one", "other"))
    require_same_examples(one, one)
    with pytest.raises(
        UserError, match=f"those of 2 of 30 users differ, such as user user04 with {TARGETS[4]} and item"
    ):
        require_same_examples(one, other)


def test_more_examples_of_a_user_are_different_targets(tmp_path: Path):
    for folder, users in (("one", ["u", "v"]), ("other", ["u", "u", "v"])):
        (tmp_path / folder).mkdir()
        write_rankings(
            tmp_path / folder / "recommendations.parquet", users, ["b"] * len(users), {"sft": [["b"]] * len(users)}
        )
    with pytest.raises(UserError, match=r"those of 1 of 2 users differ, such as user u with b and b, b; compare"):
        require_same_examples(read(tmp_path / "one")[0], read(tmp_path / "other")[0])


def test_slices_are_read_in_the_order_of_the_rankings(tmp_path: Path):
    order = np.random.default_rng(0).permutation(len(USERS))
    one_hop = ["beneficiary" if number % 4 == 0 else "non-beneficiary" for number in range(30)]
    write_rankings(tmp_path / "recommendations.parquet", USERS, TARGETS, {"sft": rankings(TARGETS, 0.5, 1)})
    (ranking,) = read(tmp_path)
    assert read_slices(run(tmp_path), "one_hop_slice", ranking) is None
    write_examples(
        tmp_path / "examples.parquet", *([column[row] for row in order] for column in (USERS, TARGETS, one_hop))
    )
    assert read_slices(run(tmp_path), "one_hop_slice", ranking).tolist() == one_hop
    assert read_slices(run(tmp_path), "brand_slice", ranking) is None
    write_examples(tmp_path / "examples.parquet", USERS[1:], TARGETS[1:], one_hop[1:])
    with pytest.raises(UserError, match=r"examples\.parquet and mine:sft are of different examples"):
        read_slices(run(tmp_path), "one_hop_slice", ranking)
