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
        ([*ROWS, "u,a,never"], None, Problem("error", "interactions.csv:8", "timestamp never is no number or date")),
        ([*ROWS, "u,z,9"], None,
         Problem("error", "items", "1 items have interactions but no record, or a record without any text, for example "
                 "'z'")),
        (None, [*ITEMS, {"item_id": "d", "brand": "B"}], Problem("note", "items", "1 of 4 items have no title")),
        (None, [*ITEMS, {"item_id": "d", "title": "A &amp; B"}],
         Problem("note", "items", "1 titles hold markup or HTML entities, for example of 'd'")),
        (None, [*ITEMS, {"item_id": "d", "title": "Title a"}],
         Problem("note", "items", "1 items have title and brand of another; only their ids tell them apart")),
        (None, [*ITEMS, {"item_id": "d", "title": "D"}], Problem("note", "items", "1 items have no interaction")),
        (None, [*ITEMS[:2], {"item_id": "c", "title": "C", "image": "c.png"}],
         Problem("error", "items", "1 pictures are not there, for example 'c.png'")),
        (None, [*ITEMS, ITEMS[0]],
         Problem("note", "items.jsonl", "1 × item repeated word for word, one is kept")),
        ([f"{row}00000000000" for row in ROWS], None,
         Problem("error", "interactions", "2 timestamps are too large for seconds; they are in no unit that is known")),
        ([f"{user},{item},17000000000{n}0" for user in "uv" for n, item in enumerate("abc")], None,
         Problem("note", "interactions.csv", "6 × timestamp in milliseconds, brought to seconds")),
        ([*ROWS, "u,a,9000000000"], None, Problem("error", "interactions", "1 timestamps lie after the year 2100")),
        ([*ROWS, "w,a,1"], None,
         Problem("note", "interactions", "1 of 3 users have fewer than 3 interactions and will be left out "
                 "(data.min_interactions)")),
        (["w,a,1", "w,b,2", "w2,c,2"], None, Problem("error", "interactions", "no user has enough interactions")),
        ([*ROWS, "u,a,7"], None,
         Problem("note", "interactions", "1 repeat an item of the same user (data.duplicates)")),
        ([*ROWS, "u,b,2"], None,
         Problem("note", "interactions", "1 share their time with another of the user; row order decides")),
    ],
)  # fmt: skip
def test_every_kind(tmp_path: Path, rows: list[str] | None, items: list[dict] | None, problem: Problem):
    assert problem in found(folder(tmp_path, rows, items))


def test_all_at_once_and_long_lists_are_cut(tmp_path: Path):
    problems = found(folder(tmp_path, [*ROWS, *["u,a,never"] * 30, "u,a,-1"], [*ITEMS, {"title": "x"}]))
    texts = [problem.text for problem in problems]
    assert texts.count("timestamp never is no number or date") == 20
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
