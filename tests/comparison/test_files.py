"""Files of rankings that other programs wrote: read as they stand, or refused in a line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dig.comparison.files import FILES, frame_of, is_rankings_file, read_file
from dig.config import UserError

LONG = {"user": ["u1", "u1", "u2"], "item": ["a", "b", "a"], "score": ["0.5", "0.25", "1"]}
CSV = "user,item,score\nu1,a,0.5\nu1,b,0.25\nu2,a,1\n"


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_file(path)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.csv", CSV),
        ("r.csv.gz", CSV),
        ("r.csv", "\ufeff" + CSV.replace("\n", "\r\n")),
        ("r.csv", CSV.replace(",", ";")),
        ("r.csv", CSV.replace(",", "\t")),
        ("R.CSV", "," + CSV.replace("\nu", "\n0,u")),  # pandas' index has no name
        ("r.tsv", CSV.replace(",", "\t") + "\n\n"),
        (
            "r.jsonl",
            '{"user":"u1","item":"a","score":0.5}\n{"user":"u1","item":"b","score":0.25}\n\n'
            '{"user":"u2","item":"a","score":1}',
        ),
        (
            "r.json",
            '[{"user":"u1","item":"a","score":0.5},{"user":"u1","item":"b","score":0.25},'
            '{"user":"u2","item":"a","score":1}]',
        ),
        ("r.json.gz", '{"u1": {"a": 0.5, "b": 0.25}, "u2": {"a": 1}}'),  # as ranx saves a run
    ],
)
def test_the_same_table_in_every_form(tmp_path: Path, name: str, content: str):
    frame = read_file(written(tmp_path, name, content))
    assert frame.select("user", "item", "score").to_dict(as_series=False) == LONG


def test_trec_has_six_fields(tmp_path: Path):
    frame = read_file(written(tmp_path, "r.run", "u1 Q0 a 1 0.5 mine\nu1\tQ0  b 2 0.25 mine\n"))
    assert frame.columns == ["query", "q0", "doc", "rank", "score", "tag"]
    assert frame["doc"].to_list() == ["a", "b"]
    assert "line 2 has 5 fields; a TREC run has six: query q0 doc rank" in refusal(
        written(tmp_path, "odd.trec", "u1 Q0 a 1 0.5 mine\nu1 Q0 b 2 0.25\n")
    )


def test_parquet_is_a_file_or_a_folder_of_parts(tmp_path: Path):
    frame = pl.DataFrame({"user": [1, 2], "items": [[3, 4], [5]]})
    frame.write_parquet(tmp_path / "r.parquet")
    (tmp_path / "spark.parquet").mkdir()
    for number in range(2):
        frame[number : number + 1].write_parquet(tmp_path / "spark.parquet" / f"part-{number}.parquet")
    assert read_file(tmp_path / "r.parquet").equals(read_file(tmp_path / "spark.parquet"))
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "r.parquet").read_bytes()[:-9])
    assert "cannot be read as Parquet" in refusal(tmp_path / "cut.parquet")


def test_whole_numbers_of_json_are_not_rounded(tmp_path: Path):
    frame = read_file(written(tmp_path, "r.json", '{"9007199254740993": [9007199254740993, 7.0]}'))
    assert frame.to_dict(as_series=False) == {"user": ["9007199254740993"], "items": [["9007199254740993", "7.0"]]}


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_every_line_of_a_csv_is_a_row(tmp_path_factory: pytest.TempPathFactory, ids: list[str]):
    """Nothing is lost to quote marks, separators or line separators of Unicode within an id."""
    path = tmp_path_factory.mktemp("csv") / "r.csv"
    pd.DataFrame({"user": ids, "item": ["a"] * len(ids)}).to_csv(path, index=False)
    assert read_file(path)["user"].to_list() == ids


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("r.csv", "user,items\nu1,a\nu2\n", "line 3 has 1 fields and the header 2"),
        ("r.csv", "user,items\nu1,[1, 2]\n", "line 2 has 3 fields and the header 2; a list that holds the delimiter"),
        ("r.tsv", 'user\titem\n"bob\ta\nu2\tb\n"eve\tc\n', "line 2: a quote mark does not end on the line where"),
        ("r.csv", 'user,item\nu1,"a\n', "line 2: a quote mark"),
        ("r.csv", 'user,item\nu1,"a"b\n', "line 2: a quote mark"),
        ("r.csv", "user,user,item\nu1,u1,a\n", "two columns are called user"),
        ("r.csv", b"user,item\nu1,\xe9\n", "line 2 is not UTF-8"),
        ("r.csv", CSV.encode("utf-16"), "it is written in UTF-16; save it as UTF-8"),
        ("r.csv", " \n", "it is empty"),
        ("r.jsonl", '{"user": 1}\n{"user": ', "line 2 is not JSON"),
        ("r.jsonl", "[1, 2]\n", "line 1 must be an object with user and items, not a list"),
        ("r.json", "3", "it must be a list of objects, or an object with lists (or scores) by user"),
        ("r.json", "{}", "it holds no user"),
        ("r.json", '{"u1": 3}', "user u1 must have a list of items or their scores, not 3"),
        ("r.json", '{"u1": ["a"], "u2": {"a": 1}}', "some users have lists, others have scores by item"),
        ("r.jsonl", '{"user": 1, "items": ["a"]}\n{"user": 2, "items": "b"}', "items is a list in some rows"),
        ("r.json", '[{"user": {"id": 1}, "items": ["a"]}]', "user holds objects where an id, a score or a list"),
        ("r.json", '{"u1": [["a", 0.5]]}', "items must hold ids, not list"),
        ("r.pkl", b"\x80\x04N.", "pickled files can run code and are not opened"),
        ("r.xlsx", b"PK", "rankings are read from .parquet, .csv"),
        ("r.parquet", b"nothing", "cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str, content: str | bytes, expected: str):
    path = written(tmp_path, name, content)
    said = refusal(path)
    assert said.startswith(f"{path}: ") and expected in said


def test_damaged_archives_and_missing_files(tmp_path: Path):
    path = written(tmp_path, "r.csv.gz", CSV)
    path.write_bytes(path.read_bytes()[:-6])
    assert "it cannot be read (" in refusal(path)
    assert f"no such file; did you mean {path}?" in refusal(tmp_path / "r.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "it is a folder, not a file" in refusal(tmp_path / "folder.csv")


def test_what_is_a_file_of_rankings(tmp_path: Path):
    assert all(is_rankings_file(f"not/there{end}") for end in FILES)
    assert not is_rankings_file("runs/beauty/latest") and not is_rankings_file("beauty")
    assert is_rankings_file(str(written(tmp_path, "odd.txt", "")))


def test_tables_in_memory():
    lists = pd.DataFrame({"user": [1, 2], "items": [[3, 4], [5]]})
    assert frame_of(lists, "mine").to_dict(as_series=False) == {"user": ["1", "2"], "items": [["3", "4"], ["5"]]}
    assert frame_of({1: [3, 4], 2: (5,)}, "mine").equals(frame_of(lists, "mine"))
    scores = frame_of({"u": {"a": 0.5}}, "mine")
    assert scores.to_dict(as_series=False) == {"user": ["u"], "item": ["a"], "score": ["0.5"]}
    assert frame_of(pl.DataFrame(LONG), "mine").equals(pl.DataFrame(LONG))
    with pytest.raises(UserError, match="mine: rankings are a file, a DataFrame or lists by user, not a int"):
        frame_of(3, "mine")


@pytest.mark.parametrize(
    "content",
    [
        {"user": {"0": 1, "1": 2}, "items": {"0": [5, 6], "1": [7]}},  # DataFrame.to_json()
        {"user": [1, 2], "items": [[5, 6], [7]]},
        {"columns": ["user", "items"], "index": [0, 1], "data": [[1, [5, 6]], [2, [7]]]},  # orient="split"
        {"1": [5, 6], "2": [7]},
    ],
)
def test_json_by_column_by_row_or_by_user_is_one_table(tmp_path: Path, content: dict):
    """A table that pandas writes column by column is not taken for users called `user` and `items`."""
    frame = read_file(written(tmp_path, "r.json", json.dumps(content)))
    assert frame.to_dict(as_series=False) == {"user": ["1", "2"], "items": [["5", "6"], ["7"]]}
    assert frame_of(content, "mine").equals(frame)


def test_pairs_of_item_and_score_are_told_how_to_be_written():
    with pytest.raises(UserError, match=r"mine: items must hold ids, not list; .*\{item: score\}"):
        frame_of({"u": [("a", 0.5), ("b", 0.25)]}, "mine")


def test_a_list_that_numpy_broke_over_lines_is_one_cell(tmp_path: Path):
    """NumPy breaks what it prints after 75 characters, and pandas writes that into a cell of CSV."""
    ids = [f"item-{number:03d}" for number in range(20)]
    table = pd.DataFrame({"user": ["u", "v"], "items": [np.array(ids), np.array(ids[:2])]})
    path = tmp_path / "r.csv"
    table.to_csv(path, index=False)
    assert "\n" in str(table["items"][0])
    frame = read_file(path)
    assert frame["user"].to_list() == ["u", "v"] and len(frame["items"][0].split()) == 20
    written(tmp_path, "open.csv", 'user,items\nu,"[a\nv,b]\nw,c"\n')
    assert "line 2: a quote mark does not end" in refusal(tmp_path / "open.csv")


def test_a_cell_may_be_as_long_as_it_likes(tmp_path: Path):
    """The csv module stops at 131,072 characters, unless anything else in the process has told it otherwise."""
    items = "|".join(f"item-{number}" for number in range(20_000))
    assert read_file(written(tmp_path, "r.csv", f"user,items\nu1,{items}\n"))["items"].to_list() == [items]


def test_a_lazy_table_is_read_without_a_warning(recwarn: pytest.WarningsRecorder):
    assert frame_of(pl.DataFrame(LONG).lazy(), "mine").equals(pl.DataFrame(LONG)) and not recwarn.list


def test_nested_records_keep_their_fields(tmp_path: Path):
    content = json.dumps({"user": 1, "items": [{"item_id": 5, "rank": 1}, {"item_id": 6, "rank": 2}]})
    frame = read_file(written(tmp_path, "r.jsonl", content))
    assert frame["items"].to_list() == [[{"item_id": "5", "rank": "1"}, {"item_id": "6", "rank": "2"}]]


def test_a_ranking_longer_than_csvs_default_limit_is_read(tmp_path: Path):
    ids = [f"i{number}" for number in range(30_000)]
    cell = json.dumps(ids).replace('"', '""')
    table = read_file(written(tmp_path, "r.csv", f'user,items\nu1,"{cell}"\n'))
    assert len(table["items"][0]) > 131_072
