"""Every kind of problem has its line, all are found at once, and clean data have none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from datamodules.problems import Problem, find_problems
from dig.config.schema import DataConfig

ITEMS = [{"item_id": item, "title": f"Title {item}"} for item in "abc"]
ROWS = [f"{user},{item},{time}" for user in "uv" for time, item in enumerate("abc")]


def folder(path: Path, rows: list[str] | None = None, items: list[dict] | None = None) -> Path:
    lines = ["user_id,item_id,timestamp", *(ROWS if rows is None else rows)]
    (path / "interactions.csv").write_text("\n".join(lines) + "\n")
    (path / "items.jsonl").write_text("\n".join(json.dumps(item) for item in (ITEMS if items is None else items)))
    return path


def found(path: Path, **settings: object) -> list[Problem]:
    return find_problems(DataConfig(path=str(path), **settings))  # type: ignore[arg-type]


def test_clean_data_have_no_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert found(folder(tmp_path)) == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("rows", "items", "problem"),
    [
        ([*ROWS, "u,a,never"], None, Problem("error", "interactions.csv:8", "timestamp never is not a number or date")),
        (
            [*ROWS, "u,z,9"],
            None,
            Problem(
                "error",
                "items",
                "1 items have interactions but no record, or a record without any text, for example 'z'",
            ),
        ),
        (None, [*ITEMS, {"item_id": "d", "brand": "B"}], Problem("note", "items", "1 of 4 items have no title")),
        (
            None,
            [*ITEMS, {"item_id": "d", "title": "A &amp; B"}],
            Problem("note", "items", "1 titles hold markup or HTML entities, for example of 'd'"),
        ),
        (
            None,
            [*ITEMS, {"item_id": "d", "title": "Title a"}],
            Problem("note", "items", "1 items have title and brand of another; only their ids tell them apart"),
        ),
        (None, [*ITEMS, {"item_id": "d", "title": "D"}], Problem("note", "items", "1 items have no interaction")),
        (
            None,
            [*ITEMS[:2], {"item_id": "c", "title": "C", "image": "c.png"}],
            Problem("error", "items", "1 pictures are not there, for example 'c.png'"),
        ),
        (None, [*ITEMS, ITEMS[0]], Problem("note", "items.jsonl", "1 × item repeated word for word, one is kept")),
        (
            [f"{row}00000000000" for row in ROWS],
            None,
            Problem(
                "error", "interactions", "2 timestamps are too large for seconds; they are in no unit that is known"
            ),
        ),
        (
            [f"{user},{item},17000000000{n}0" for user in "uv" for n, item in enumerate("abc")],
            None,
            Problem("note", "interactions.csv", "6 × timestamp in milliseconds, brought to seconds"),
        ),
        ([*ROWS, "u,a,9000000000"], None, Problem("error", "interactions", "1 timestamps lie after the year 2100")),
        (
            [*ROWS, "w,a,1"],
            None,
            Problem(
                "note",
                "interactions",
                "1 of 3 users have fewer than 3 interactions and will be left out (data.min_interactions)",
            ),
        ),
        (["w,a,1", "w,b,2", "w2,c,2"], None, Problem("error", "interactions", "no user has enough interactions")),
        (
            [*ROWS, "u,a,7"],
            None,
            Problem("note", "interactions", "1 repeat an item of the same user (data.duplicates)"),
        ),
        (
            [*ROWS, "u,b,2"],
            None,
            Problem("note", "interactions", "1 share their time with another of the user; row order decides"),
        ),
    ],
)
def test_every_kind(tmp_path: Path, rows: list[str] | None, items: list[dict] | None, problem: Problem):
    assert problem in found(folder(tmp_path, rows, items))


def test_all_at_once_and_long_lists_are_cut(tmp_path: Path):
    problems = found(folder(tmp_path, [*ROWS, *["u,a,never"] * 30, "u,a,-1"], [*ITEMS, {"title": "x"}]))
    texts = [problem.text for problem in problems]
    assert texts.count("timestamp never is not a number or date") == 20
    assert "11 more rows cannot be read" in texts and "no item_id" in texts


def test_unreadable_files_are_one_problem(tmp_path: Path):
    (folder(tmp_path) / "interactions.csv").write_text("user,item,time\n")
    (problem,) = found(tmp_path)
    assert problem.kind == "error" and "column 'user_id' is missing" in problem.text


def test_kept_unknown_items_are_no_error(tmp_path: Path):
    kinds = {problem.kind for problem in found(folder(tmp_path, [*ROWS, "u,z,9"]), unknown_items="keep")}
    assert kinds == {"note"}


@pytest.mark.skipif("DIG_DATA_ROOT" not in os.environ, reason="DIG_DATA_ROOT names no real data")
@pytest.mark.parametrize("name", ["beauty", "sports", "industrial"])
def test_the_real_tables_have_no_error(name: str):
    problems = found(Path(os.environ["DIG_DATA_ROOT"]) / name)
    assert problems and all(problem.kind == "note" for problem in problems)


FOUR = [f"{user},{item},{day}" for user in "uvw" for day, item in enumerate("abcd")]
FOUR_ITEMS = [{"item_id": item, "title": f"Title {item}"} for item in "abcd"]


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        ({"k_core": 50}, ["no user is left: data.k_core=50, data.min_interactions=3"]),
        ({"min_rating": 10}, ["data.min_rating=10 leaves no interaction"]),
        ({"min_interactions": 9}, ["no user has enough interactions"]),
        ({"split": "published"}, ["data.split=published, but data.source=tables at"]),
        ({"split": "global-time"}, ["every user starts at timestamp 0"]),
        (
            {"k_core": 50, "min_rating": 10, "split": "published"},
            ["no user is left: data.k_core=50", "data.min_rating=10 leaves", "data.split=published, but"],
        ),
    ],
)
def test_entry_9_what_training_would_refuse(tmp_path: Path, settings: dict, texts: list[str]):
    """Entry 9: every refusal of the preparation is a problem, each although another leaves nothing."""
    path = folder(tmp_path, [f"{row},4" for row in FOUR], FOUR_ITEMS)
    content = (path / "interactions.csv").read_text().replace("timestamp\n", "timestamp,rating\n")
    (path / "interactions.csv").write_text(content)
    assert not [problem for problem in found(path) if problem.kind == "error"]
    errors = [problem.text for problem in found(path, **settings) if problem.kind == "error"]
    assert len(errors) == len(texts)
    assert all(any(error.startswith(text) or text in error for error in errors) for text in texts)


def test_entry_9_one_day_has_no_time_to_split_at(tmp_path: Path):
    """Entry 9: global-time on one day, and moments outside of the data."""
    day = [f"{user},{item},{1400000000 + (user == 'w')}" for user in "uvw" for item in "abcd"]
    (error,) = [p for p in found(folder(tmp_path, day, FOUR_ITEMS), split="global-time") if p.kind == "error"]
    assert error.where == "prepare" and "part is empty" in error.text
    times = ["2014-01-01", "2014-02-01"]
    errors = [p for p in found(tmp_path, split="global-time", split_times=times) if p.kind == "error"]
    assert "the validation would begin at 1388534400 (2014-01-01 00:00)" in errors[0].text


def test_entry_9_both_tables_are_looked_at(tmp_path: Path):
    """Entry 9: a column that is missing in one table hides none of the other; too many bad rows are told as such."""
    path = folder(tmp_path, FOUR, FOUR_ITEMS)
    (path / "interactions.csv").write_text("user,item_id,timestamp\nu,a,1\n")
    (path / "items.jsonl").write_text('{"id": "a", "title": "T"}\n')
    texts = [problem.text for problem in found(path)]
    assert len(texts) == 2 and "'user_id' is missing" in texts[0] and "item_id is missing" in texts[1]
    problems = found(folder(tmp_path, [*FOUR, "u,a,never"], FOUR_ITEMS))
    assert (
        Problem(
            "refusal", "interactions.csv", "1 of 13 rows (7.7%) cannot be read, more than data.max_bad_fraction=1.0%"
        )
        in problems
    )


def test_entry_9_a_word_for_nothing_as_a_user(tmp_path: Path):
    """Entries 5 and 9: a user called nan may be one; that the id stands in several rows is told."""
    problems = found(folder(tmp_path, [*FOUR, *(f"nan,{item},{n}" for n, item in enumerate("abcd"))], FOUR_ITEMS))
    assert (
        Problem(
            "note",
            "interactions",
            "'nan' is the user_id of 4 rows; where it stands for a missing id, leave the cell empty",
        )
        in problems
    )


def test_entry_9_every_item_unknown_and_dropped(tmp_path: Path):
    rows = [f"u,X{n},{n}" for n in range(5)]
    texts = [each.text for each in found(folder(tmp_path, rows), unknown_items="drop") if each.kind == "error"]
    assert texts == ["data.unknown_items=drop leaves no interaction"]


def test_entry_10_ids_that_nearly_agree_are_told_apart(tmp_path: Path):
    """Entry 10: `validate` says which difference it is, of items and of users."""
    rows = ["u,007,1", "u,007,2", "u,007,3", "u ,007,4", "u.0,007,5"]
    texts = [each.text for each in found(folder(tmp_path, rows, [{"item_id": "7", "title": "T"}]))]
    assert any("ids differ by leading zeros: the interactions have '007', the items '7'" in text for text in texts)
    assert any(
        "1 users' ids are those of others but for blanks or a trailing '.0', for example 'u '" in text for text in texts
    )
