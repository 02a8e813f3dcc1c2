"""The interchange format: equal results from every form, and one line for everything that is wrong."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import polars as pl
import pytest

from datamodules.sources.tables import CATALOGUE_SCHEMA, Tables, input_files, read_tables
from datamodules.splits import build_sequences
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.console import console

ITEMS = [
    {"item_id": "a", "title": "Kettle", "categories": [["Home", "Kitchen"], ["Home", "Gifts"]], "price": "$1,299.50"},
    {"item_id": "b", "title": ["Tea", "set"], "brand": "Ö & Co", "price": "see site", "description": ["one", "two"]},
    {"item_id": 3, "title": None, "categories": "Garden", "image": "images/3.png"},
]
ROWS = ["u1,a,1", "u1,b,2", "u2,3,1.5", "u1,3,2"]
HEADER = "user_id,item_id,timestamp"


def folder(path: Path, rows: list[str] | None = None, items: list[dict] | None = None, header: str = HEADER) -> Path:
    path.mkdir(exist_ok=True)
    text = "\n".join([header, *(ROWS if rows is None else rows)]) + "\n"
    (path / "interactions.csv").write_text(text, encoding="utf-8")
    lines = [json.dumps(item) for item in (ITEMS if items is None else items)]
    (path / "items.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(path: Path, **settings: object) -> Tables:
    config = DataConfig(path=str(path), **settings)  # type: ignore[arg-type]
    return read_tables(input_files(config), config)


def refused(path: Path, **settings: object) -> str:
    with pytest.raises(UserError) as caught, console.capture():
        read(path, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_texts_prices_and_categories(tmp_path: Path) -> None:
    catalogue = read(folder(tmp_path)).catalogue
    assert dict(catalogue.schema) == CATALOGUE_SCHEMA
    assert catalogue["item_id"].to_list() == ["a", "b", "3"]
    assert catalogue["title"].to_list() == ["Kettle", "Tea set", None]
    assert catalogue["categories"].to_list() == [["Home", "Kitchen", "Gifts"], None, ["Garden"]]
    assert catalogue["price"].to_list() == [1299.5, None, None]
    assert catalogue["description"].to_list() == [None, "one two", None]


def test_every_form_gives_the_same(tmp_path: Path) -> None:
    plain = read(folder(tmp_path / "plain"))
    packed = folder(tmp_path / "packed")
    for name in ("interactions.csv", "items.jsonl"):
        with gzip.open(packed / f"{name}.gz", "wb") as stream:
            stream.write((packed / name).read_bytes())
        (packed / name).unlink()
    columns = folder(tmp_path / "columns")
    plain.interactions.write_parquet(columns / "interactions.parquet")
    plain.catalogue.write_parquet(columns / "items.parquet")
    for name in ("interactions.csv", "items.jsonl"):
        (columns / name).unlink()
    for other in (packed, columns):
        found = read(other)
        assert found.interactions.equals(plain.interactions)
        assert found.catalogue.equals(plain.catalogue)


def test_windows_line_ends_a_mark_and_more_columns(tmp_path: Path) -> None:
    path = folder(tmp_path)
    text = "\ufeffrating,user_id,item_id,timestamp\r\n" + "".join(f"5,{row}\r\n" for row in ROWS)
    (path / "interactions.csv").write_bytes(text.encode())
    assert read(path).interactions.equals(read(folder(tmp_path / "plain")).interactions)


@pytest.mark.parametrize("item", ["with,comma", 'with "quote"', "🎁", " spaced "])
def test_strange_ids_survive(tmp_path: Path, item: str) -> None:
    quoted = '"' + item.replace('"', '""') + '"'
    path = folder(tmp_path, rows=[f"{quoted},{quoted},1"], items=[{"item_id": item, "title": "x"}])
    assert read(path).interactions.row(0)[:2] == (item, item)


def test_bad_rows_are_counted_with_line_and_reason(tmp_path: Path) -> None:
    rows = [*ROWS * 100]
    rows[6] = "u1,a,yesterday"
    rows[9] = "u1,,4"
    path = folder(tmp_path, rows=rows)
    with console.capture() as captured:
        tables = read(path)
    said = captured.get()
    assert "interactions.csv:8: timestamp yesterday is not a number" in said
    assert "interactions.csv:11: item_id is empty" in said
    assert tables.bad_rows == 2 and len(tables.interactions) == 398
    assert "2 of 400 rows" in refused(path, max_bad_fraction=0.001)


@pytest.mark.parametrize("bad", ["u1,a,1,extra", "u1,a"])
def test_a_wrong_number_of_fields(tmp_path: Path, bad: str) -> None:
    path = folder(tmp_path, rows=[*ROWS * 50, bad])
    with console.capture() as captured:
        tables = read(path)
    assert "interactions.csv:202:" in captured.get()
    assert len(tables.interactions) == 200 and tables.bad_rows == 1


@pytest.mark.parametrize("value", ["inf", "nan", ""])
def test_a_timestamp_that_is_no_time(tmp_path: Path, value: str) -> None:
    assert "line 2" in refused(folder(tmp_path, rows=[f"u1,a,{value}", *ROWS]))


def test_bad_items(tmp_path: Path) -> None:
    many = [{"item_id": f"i{n}", "title": "x"} for n in range(300)]
    path = folder(tmp_path, items=[*many, {"item_id": "i7", "title": "again"}, *ITEMS])
    with (path / "items.jsonl").open("a") as stream:
        stream.write("{broken\n")
    with console.capture() as captured:
        tables = read(path)
    assert "items.jsonl:301: item 'i7' stands in line 8 already" in captured.get()
    assert "items.jsonl:305: not JSON" in captured.get()
    assert tables.bad_rows == 2


def test_missing_things_name_the_nearest(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "none") and "DIG_DATA_ROOT" in refused(tmp_path / "none")
    path = folder(tmp_path / "a", header="user_id,item,timestamp")
    text = refused(path)
    assert "interactions.csv: column 'item_id' is missing" in text and "'item'" in text
    (path / "interactions.csv").unlink()
    assert "interactions.csv, interactions.csv.gz, interactions.parquet" in refused(path)
    no_ids = folder(tmp_path / "b", items=[{"id": "a", "title": "x"}])
    assert "items.jsonl: column item_id is missing" in refused(no_ids)
    twice = folder(tmp_path / "c")
    (twice / "items.parquet").write_bytes(b"")
    assert "keep one of them" in refused(twice)


def test_empty_files(tmp_path: Path) -> None:
    assert "there are no interactions" in refused(folder(tmp_path / "a", rows=[]))
    empty = folder(tmp_path / "b")
    (empty / "interactions.csv").write_text("")
    assert "column 'user_id' is missing" in refused(empty)
    (empty / "items.jsonl").write_text("")
    assert "the catalogue is empty" in refused(empty)


def test_a_truncated_archive(tmp_path: Path) -> None:
    path = folder(tmp_path)
    packed = gzip.compress((HEADER + "\n" + "\n".join(ROWS * 500)).encode())
    (path / "interactions.csv").unlink()
    (path / "interactions.csv.gz").write_bytes(packed[: len(packed) // 2])
    assert "damaged or cut off" in refused(path)


def test_unknown_items_are_refused_or_dropped(tmp_path: Path) -> None:
    path = folder(tmp_path, rows=[*ROWS, "u2,zz,9", "u2,zz,10"])
    assert "2 interactions with 1 items that items.jsonl lacks, for example 'zz'" in refused(path)
    with console.capture() as captured:
        assert len(read(path, unknown_items="drop").interactions) == 4
    assert "2 interactions with 1 items" in captured.get()


@pytest.mark.skipif("DIG_DATA_ROOT" not in os.environ, reason="DIG_DATA_ROOT names no real data")
@pytest.mark.parametrize(
    ("name", "users", "items", "interactions"), [("beauty", 22363, 12101, 198502), ("sports", 35598, 18357, 296337)]
)
def test_real_counts(name: str, users: int, items: int, interactions: int) -> None:
    tables = read(Path(os.environ["DIG_DATA_ROOT"]) / name)
    sequences, _ = build_sequences(tables.interactions, tables.catalogue["item_id"], 3)
    assert (len(sequences), len(tables.catalogue), len(tables.interactions)) == (users, items, interactions)
    assert isinstance(tables.catalogue, pl.DataFrame)
