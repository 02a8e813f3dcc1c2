"""A table of items of one's own: lists, missing values and prices in every format, mapped columns, further text."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from datamodules.sources.base import Problems
from datamodules.sources.own_items import read_items
from dig.config import UserError
from dig.config.schema import DataConfig


def table(folder: Path, name: str, records: list[dict[str, Any]]) -> Path:
    """The records in the format of the name."""
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    elif name.endswith(".parquet"):
        pl.DataFrame(records, infer_schema_length=None).write_parquet(path)
    else:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(records[0]), delimiter="\t" if name.endswith(".tsv") else ",")
            writer.writeheader()
            writer.writerows(records)
    return path


def read(path: Path, **settings: Any) -> tuple[pl.DataFrame, Problems]:
    problems = Problems(path)
    return read_items(path, DataConfig(path=str(path.parent), **settings), problems), problems


FORMATS = ["items.csv", "items.tsv", "items.jsonl", "items.parquet"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "cell",
    [
        "Home|Soap",
        "['Home', 'Soap']",
        '["Home","Soap"]',
        "Home > Soap",
        "['Home' 'Soap']",
        "Home;Soap",
        "[['Home','Soap']]",
        "[Home, Soap]",
    ],
)
def test_entry_4_every_list_in_every_format(tmp_path: Path, name: str, cell: str):
    """Entry 4: two categories are two, however the cell was written, and a note says how it was read."""
    records = [{"item_id": "a", "title": "A", "categories": cell}, {"item_id": "b", "title": "B", "categories": "Bath"}]
    catalogue, problems = read(table(tmp_path, name, records))
    assert catalogue["categories"].to_list() == [["Home", "Soap"], ["Bath"]]
    assert any("categories" in note for note in problems.notes) and not problems.rows


def test_entry_4_lists_that_are_lists(tmp_path: Path):
    """Entry 4, siblings: columns of lists, lists of lists and of structs."""
    frame = pl.DataFrame({"item_id": ["a"], "title": ["A"], "categories": [["Home, Garden", "Soap"]]})
    for categories, expected in (
        (pl.Series([["Home, Garden", "Soap"]]), ["Home, Garden", "Soap"]),
        (pl.Series([[["Home"], ["Home", "Soap"]]]), ["Home", "Soap"]),
        (pl.Series([[{"id": 1, "name": "Home"}, {"id": 2, "name": None}]]), ["Home"]),
        (pl.Series(["Home"], dtype=pl.Categorical), ["Home"]),
        (pl.Series([7]), ["7"]),
    ):
        frame.with_columns(categories.alias("categories")).write_parquet(tmp_path / "items.parquet")
        assert read(tmp_path / "items.parquet")[0]["categories"].to_list() == [expected]


@pytest.mark.parametrize("name", FORMATS)
def test_entry_4_texts_that_are_lists(tmp_path: Path, name: str):
    """Entry 4: a description of [] is nothing, and one of several texts is all of them; a title in brackets stays."""
    records = [
        {"item_id": "a", "title": "[REC]", "description": "[]", "image": "['https://h/1.png', 'https://h/2.png']"},
        {"item_id": "b", "title": "(500) Days", "description": '["one", "two"]', "image": "[]"},
        {"item_id": "c", "title": "[1984]", "description": "['one' 'two']", "image": ""},
    ]
    catalogue, _ = read(table(tmp_path, name, records))
    assert catalogue["title"].to_list() == ["[REC]", "(500) Days", "[1984]"]
    assert catalogue["description"].to_list() == [None, "one two", "one two"]
    assert catalogue["image"].to_list() == ["https://h/1.png", None, None]


def test_entry_4_what_was_decided_is_said(tmp_path: Path):
    """Entry 4: a separator that was taken, and one that was not, stand in the notes with the key that changes it."""
    records = [{"item_id": str(n), "title": "T", "categories": cell} for n, cell in enumerate(["A|B", "A|C", "C"])]
    _, problems = read(table(tmp_path, "items.csv", records))
    assert problems.notes == {"cell of categories split at '|' (data.category_separator='' keeps cells whole)": 2}
    catalogue, problems = read(tmp_path / "items.csv", category_separator="")
    assert catalogue["categories"].to_list() == [["A|B"], ["A|C"], ["C"]] and not problems.notes
    records = [{"item_id": "a", "title": "T", "categories": "Food, Drink & Co"}]
    catalogue, problems = read(table(tmp_path, "items.csv", records))
    assert catalogue["categories"].to_list() == [["Food, Drink & Co"]]
    assert next(iter(problems.notes)).endswith("not taken for a separator (data.category_separator=',' splits there)")
    assert read(tmp_path / "items.csv", category_separator=",")[0]["categories"].to_list() == [["Food", "Drink & Co"]]


def test_entry_5_nan_is_nothing(tmp_path: Path):
    """Entry 5: a title of NaN in JSON is none, and a column of NaN in Parquet says nothing."""
    (tmp_path / "items.jsonl").write_text(
        '{"item_id":"A","title":NaN,"brand":Infinity,"price":NaN,"categories":NaN}\n{"item_id":12.0,"title":1984.0}\n'
        '{"item_id":7,"title":true,"categories":["x",NaN,null]}\n'
    )
    catalogue, _ = read(tmp_path / "items.jsonl")
    assert catalogue.select("item_id", "title", "brand", "categories", "price").rows() == [
        ("A", None, None, None, None),
        ("12", "1984", None, None, None),
        ("7", None, None, ["x"], None),
    ]
    frame = {
        "item_id": [1.0, 2.0],
        "title": [b"Kettle", b"Tea"],
        "brand": [float("nan")] * 2,
        "price": [float("nan"), 2.5],
    }
    pl.DataFrame(frame).write_parquet(tmp_path / "items.parquet")
    catalogue, problems = read(tmp_path / "items.parquet")
    assert catalogue.select("item_id", "title", "brand", "price").rows() == [
        ("1", "Kettle", None, None),
        ("2", "Tea", None, 2.5),
    ]
    assert not problems.notes


@pytest.mark.parametrize("name", FORMATS)
def test_entry_5_words_for_nothing(tmp_path: Path, name: str):
    """Entry 5: what pandas writes for nothing is nothing, said by name; a title None that stands once may be real."""
    records = [
        {"item_id": "a", "title": "None", "brand": "nan", "categories": "NaN", "description": "<NA>"},
        {"item_id": "b", "title": "nan", "brand": "None", "categories": "null", "description": "Nan's tea"},
        {"item_id": "c", "title": "null", "brand": "B", "categories": "None", "description": ""},
        {"item_id": "NaN", "title": "null", "brand": "", "categories": "N/A", "description": "x"},
    ]
    catalogue, problems = read(table(tmp_path, name, records))
    assert catalogue["title"].to_list() == ["None", None, None, None]
    assert catalogue["brand"].to_list() == [None, None, "B", None]
    assert catalogue["categories"].to_list() == [None] * 4
    assert catalogue["description"].to_list() == [None, "Nan's tea", None, "x"]
    assert catalogue["item_id"].to_list() == ["a", "b", "c", "NaN"]  # an id is what it is
    assert problems.notes["'null' in the column 'title', taken for a missing value"] == 2
    assert "title 'None', kept: it may be a name, since it stands there once" in problems.notes


def test_entry_5_ids_that_name_nothing_are_bad_rows(tmp_path: Path):
    """Entry 5: rows without an id, with a broken number or a list as one, are told with their line."""
    ids = ["null", '""', "NaN", "12.5", "true", '["a"]', "{}", "12.0"]
    (tmp_path / "items.jsonl").write_text("".join(f'{{"item_id": {value}, "title": "T"}}\n' for value in ids))
    catalogue, problems = read(tmp_path / "items.jsonl")
    assert catalogue["item_id"].to_list() == ["12"]
    assert [line for line, _ in problems.rows] == [1, 2, 3, 4, 5, 6, 7]
    assert problems.rows[0][1] == "no item_id" == problems.rows[2][1]
    assert problems.rows[3][1] == "item_id must be text or a whole number, it is 12.5"


@pytest.mark.parametrize("name", FORMATS)
def test_entry_6_a_column_of_prices(tmp_path: Path, name: str):
    """Entry 6: prices with a decimal comma; one mark before three digits goes with the others; what is none is said."""
    prices = ["12,99", "1.299,00 €", "1 299,00", "1.299", "", "auf Anfrage", "-3,00"]
    records = [{"item_id": str(n), "title": "T", "price": price} for n, price in enumerate(prices)]
    catalogue, problems = read(table(tmp_path, name, records))
    assert catalogue["price"].to_list() == [12.99, 1299.0, 1299.0, 1299.0, None, None, None]
    assert problems.notes["price that says no amount, left out, for example 'auf Anfrage'"] == 2
    assert problems.notes["price whose mark may be a decimal or thousands; '1.299' is read as 1299"] == 1


def test_entry_6_decimals_of_a_database(tmp_path: Path):
    """Entry 6, siblings: Parquet's decimals and integers are prices as they are."""
    for price in (pl.Series([Decimal("12.99")]), pl.Series([12]), pl.Series(["12,99"])):
        frame = pl.DataFrame({"item_id": ["a"], "title": ["T"], "price": price})
        frame.write_parquet(tmp_path / "items.parquet")
        assert read(tmp_path / "items.parquet")[0]["price"].item() == pytest.approx(
            float(str(price[0]).replace(",", "."))
        )


@pytest.mark.parametrize("name", FORMATS)
def test_newcomers_3_a_mapped_column_that_is_not_there(tmp_path: Path, name: str):
    """The newcomers' third: a mapping to a missing column names the nearest, for optional columns, too."""
    path = table(tmp_path, name, [{"item_id": "a", "title": "T", "genres": "x", "year": "1999"}])
    with pytest.raises(UserError, match=r"column 'genre' is missing; did you mean 'genres'\?"):
        read(path, columns={"categories": "genre"})
    with pytest.raises(UserError, match=r"column 'yaer' is missing; did you mean 'year'\?"):
        read(path, text_columns=["yaer"])
    catalogue, problems = read(path, columns={"categories": "genres"})
    assert catalogue["categories"].to_list() == [["x"]] and problems.notes == {"column ignored: 'year'": 1}


@pytest.mark.parametrize("name", FORMATS)
def test_newcomers_3_further_columns_join_the_text(tmp_path: Path, name: str):
    """The newcomers' third: data.text_columns takes columns into the description, lists and gaps included."""
    records = [
        {"item_id": "a", "title": "T", "description": "Warm", "year": "1999", "material": "['wool', 'silk']"},
        {"item_id": "b", "title": "T", "description": "Dry.", "year": "nan", "material": "tin"},
        {"item_id": "c", "title": "T", "description": "", "year": "", "material": ""},
    ]
    catalogue, problems = read(table(tmp_path, name, records), text_columns=["year", "material"])
    assert catalogue["description"].to_list() == ["Warm. year: 1999; material: wool, silk", "Dry. material: tin", None]
    assert not any("ignored" in note for note in problems.notes)


def test_entry_8_a_map_for_each_table(tmp_path: Path):
    """Entry 8: the items' own map wins over the one for both."""
    path = table(tmp_path, "items.csv", [{"id": "a", "name": "T"}])
    columns = {"item_id": "sku", "title": "name", "items": {"item_id": "id"}}
    assert read(path, columns=columns)[0].select("item_id", "title").rows() == [("a", "T")]
    with pytest.raises(UserError, match=r"data\.columns\.items='titel' is not one of .*did you mean 'title'"):
        DataConfig(path="x", columns={"items": {"titel": "x"}})
    with pytest.raises(UserError, match=r"data\.columns\.items must be a map"):
        DataConfig(path="x", columns={"items": "id"})
