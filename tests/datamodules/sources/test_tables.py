"""The interchange format: equal results from every form, and one line for everything that is wrong."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import polars as pl
import pytest
import zstandard

from datamodules.sources import read_source
from datamodules.sources.base import CATALOGUE_SCHEMA, Tables
from dig.config import UserError
from dig.config.schema import DataConfig, FilesConfig
from dig.engine.console import console

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
    return read_source(DataConfig(path=str(path), **settings))  # type: ignore[arg-type]


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
    packed, dense = folder(tmp_path / "packed"), folder(tmp_path / "dense")
    for name in ("interactions.csv", "items.jsonl"):
        content = (packed / name).read_bytes()
        half = len(content) // 2  # archives may be several in a row
        (packed / f"{name}.gz").write_bytes(gzip.compress(content[:half]) + gzip.compress(content[half:]) + b"\0" * 9)
        (dense / f"{name}.zst").write_bytes(zstandard.compress(content[:half]) + zstandard.compress(content[half:]))
        (packed / name).unlink()
        (dense / name).unlink()
    tabs = folder(tmp_path / "tabs")
    (tabs / "interactions.tsv").write_text((tabs / "interactions.csv").read_text().replace(",", "\t"))
    (tabs / "interactions.csv").unlink()
    columns = folder(tmp_path / "columns")
    plain.interactions.write_parquet(columns / "interactions.parquet")
    plain.catalogue.write_parquet(columns / "items.parquet")
    for name in ("interactions.csv", "items.jsonl"):
        (columns / name).unlink()
    for other in (packed, dense, tabs, columns):
        found = read(other)
        assert found.interactions.equals(plain.interactions)
        assert found.catalogue.equals(plain.catalogue)


def test_windows_line_ends_a_mark_and_more_columns(tmp_path: Path) -> None:
    path = folder(tmp_path)
    text = "\ufeffmood,user_id,item_id,timestamp\r\n" + "".join(f"5,{row}\r\n" for row in ROWS)
    (path / "interactions.csv").write_bytes(text.encode())
    items = (path / "items.jsonl").read_text().replace("\n", "\r\n")
    (path / "items.jsonl").write_bytes(b"\xef\xbb\xbf" + items.encode())
    with console.capture() as captured:
        found = read(path)
    assert "1 × column ignored: 'mood'" in captured.get()
    plain = read(folder(tmp_path / "plain"))
    assert found.interactions.equals(plain.interactions) and found.catalogue.equals(plain.catalogue)


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("item", ["with,comma", 'with "quote"', "🎁", " spaced ", "two\nlines", "NULL", "NaN", "0012"])
def test_strange_ids_survive(tmp_path: Path, item: str, odd: bool) -> None:
    quoted = '"' + item.replace('"', '""') + '"'
    rows = [f"{quoted},{quoted},1"] + ["u,a,never"] * odd  # a bad row sends the file the slow way
    path = folder(tmp_path, rows=rows, items=[{"item_id": item, "title": "x"}])
    with console.capture():
        assert read(path, max_bad_fraction=1.0).interactions.rows() == [(item, item, 1.0)]


def test_lines_are_counted_over_quoted_newlines(tmp_path: Path) -> None:
    path = folder(tmp_path, rows=['"u\n\n1",a,1', "u,a,soon", '"v\n",a,later'])
    with console.capture() as captured:
        assert read(path, max_bad_fraction=1.0).interactions.rows() == [("u\n\n1", "a", 1.0)]
    assert "csv:5: timestamp soon" in captured.get() and "csv:6: timestamp later" in captured.get()


def test_a_quote_that_is_never_closed_costs_no_silence(tmp_path: Path) -> None:
    path = folder(tmp_path, rows=['"u1,a,1', *ROWS])
    assert "cannot be read" in refused(path)
    (path / "interactions.csv").write_text(f'{HEADER}\n"u1,a,1\n' + "u1,a,1\n" * 50_000)
    with console.capture() as captured:
        tables = read(path)
    assert len(tables.interactions) == 50_000 and tables.bad_rows == 1
    assert "interactions.csv:2: a quote mark opens field 1 and does not close it" in captured.get()


def test_bad_rows_are_counted_with_line_and_reason(tmp_path: Path) -> None:
    rows = [*ROWS * 100]
    rows[6] = "u1,a,yesterday"
    rows[9] = "u1,,4"
    path = folder(tmp_path, rows=rows)
    with console.capture() as captured:
        tables = read(path)
    said = captured.get()
    assert "interactions.csv:8: timestamp yesterday is not a number or date" in said
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


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("inf", "timestamp inf is not a number or date"),
        ("nan", "timestamp nan is not a number or date"),
        ("", "timestamp (empty) is not a number or date"),
        ("-5", "timestamp -5 is negative"),
        ("2018-13-01", "timestamp 2018-13-01 is not a number or date"),
    ],
)
def test_a_timestamp_that_is_no_time(tmp_path: Path, value: str, reason: str) -> None:
    assert f"line 2: {reason}" in refused(folder(tmp_path, rows=[f"u1,a,{value}", *ROWS]))


def test_dates_are_times_in_utc(tmp_path: Path) -> None:
    rows = ["u1,a,1970-01-02", "u1,b,1970-01-02T00:00:01", "u2,3,1970-01-02 00:00:02", "u1,3,86403"]
    assert read(folder(tmp_path / "a", rows=rows)).interactions["timestamp"].to_list() == [
        86400.0 + n for n in range(4)
    ]
    path = folder(tmp_path / "b")
    frame = read(path).interactions.with_columns(
        pl.from_epoch(pl.col("timestamp").cast(pl.Int64), time_unit="s").alias("timestamp")
    )
    (path / "interactions.csv").unlink()
    frame.write_parquet(path / "interactions.parquet")
    assert read(path).interactions["timestamp"].to_list() == [1.0, 2.0, 1.0, 2.0]


def test_the_header_again(tmp_path: Path) -> None:
    path = folder(tmp_path, rows=[*ROWS * 50, HEADER, *ROWS])
    with console.capture() as captured:
        assert len(read(path).interactions) == 204
    assert "interactions.csv:202: the header again; the row is left out" in captured.get()


def test_a_byte_that_is_no_utf8(tmp_path: Path) -> None:
    path = folder(tmp_path)
    (path / "interactions.csv").write_bytes(f"{HEADER}\n".encode() + b"u1,a,1\n" * 200 + b"caf\xe9,a,2\nu1,caf\xe9,2\n")
    with (path / "items.jsonl").open("ab") as stream:
        stream.write(b'{"item_id": "t", "title": "Th\xe9 vert"}\n')
    with console.capture() as captured:
        tables = read(path)
    said = captured.get()
    assert "interactions.csv:202: user_id is not UTF-8" in said and "interactions.csv:203: item_id is not UTF-8" in said
    assert "1 × item with bytes that are not UTF-8; they are replaced by U+FFFD" in said
    assert len(tables.interactions) == 200 and tables.catalogue["title"][3] == "Th\ufffd vert"


def test_your_own_column_names(tmp_path: Path) -> None:
    path = folder(
        tmp_path, header="customer,sku,time", items=[{"sku": i["item_id"], "name": i["title"]} for i in ITEMS]
    )
    columns = {"user_id": "customer", "item_id": "sku", "timestamp": "time", "title": "name"}
    found = read(path, columns=columns)
    assert found.interactions.equals(read(folder(tmp_path / "plain")).interactions)
    assert found.catalogue["title"].to_list() == ["Kettle", "Tea set", None]
    assert "column 'when' is missing" in refused(path, columns={**columns, "timestamp": "when"})


def test_ratings_filter(tmp_path: Path) -> None:
    rows = [f"{row},{stars}" for row, stars in zip(ROWS, ["5", "3", "4", ""], strict=True)]
    path = folder(tmp_path, header=f"{HEADER},rating", rows=rows)
    assert read(path).interactions["rating"].to_list() == [5.0, 3.0, 4.0, None]
    with console.capture() as captured:
        assert read(path, min_rating=4).interactions["rating"].to_list() == [5.0, 4.0]
    assert "2 of 4 interactions are rated below 4 or not at all" in captured.get()
    assert "leaves no interaction" in refused(path, min_rating=6)
    assert "have no rating" in refused(folder(tmp_path / "plain"), min_rating=4)


def test_bad_items(tmp_path: Path) -> None:
    many = [{"item_id": f"i{n}", "title": "x"} for n in range(300)]
    path = folder(tmp_path, items=[*many, {"item_id": "i7", "title": "again"}, *ITEMS])
    with (path / "items.jsonl").open("a") as stream:
        stream.write("{broken\n")
    with console.capture() as captured:
        tables = read(path)
    assert "items.jsonl:301: item 'i7' stands in line 8 already, with other words" in captured.get()
    assert "items.jsonl:305: not JSON" in captured.get()
    assert tables.bad_rows == 2


def test_an_item_repeated_word_for_word_costs_nothing(tmp_path: Path) -> None:
    with console.capture() as captured:
        tables = read(folder(tmp_path, items=[*ITEMS, ITEMS[0]]))
    assert len(tables.catalogue) == 3 and tables.bad_rows == 0
    assert "1 × item repeated word for word, one is kept" in captured.get()


@pytest.mark.parametrize("image", ["../secret.png", "/etc/passwd", "out/../../x.png", "link/x.png", "loop/x", "a\0b"])
def test_a_picture_outside_the_folder_is_left_out(tmp_path: Path, image: str) -> None:
    path = folder(tmp_path / "data", items=[*ITEMS, {"item_id": "p", "title": "x", "image": image}])
    (path / "link").symlink_to(tmp_path)
    (path / "loop").symlink_to(path / "loop")
    with console.capture() as captured:
        catalogue = read(path).catalogue
    assert catalogue["image"].to_list() == [None, None, "images/3.png", None]
    assert "1 × image path that leaves the data folder, left out" in captured.get()


def test_other_addresses_than_the_webs_are_left_out(tmp_path: Path) -> None:
    images = ["file:///etc/passwd", "ftp://host/x.png", "https://host/x.png"]
    items = [{"item_id": str(n), "title": "x", "image": image} for n, image in enumerate(images)]
    with console.capture():
        found = read(folder(tmp_path, items=[*ITEMS, *items])).catalogue["image"].to_list()
    assert found[3:] == [None, None, "https://host/x.png"]


def test_links_that_run_in_a_circle(tmp_path: Path) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    assert refused(circle).endswith("symbolic links run in a circle")
    path = folder(tmp_path / "data")
    (path / "items.jsonl").unlink()
    (path / "items.jsonl").symlink_to(path / "items.jsonl")
    assert refused(path).endswith("items.jsonl: symbolic links run in a circle")


def test_missing_things_name_the_nearest(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "none") and "DIG_DATA_ROOT" in refused(tmp_path / "none")
    path = folder(tmp_path / "a", header="user_id,item,timestamp")
    text = refused(path)
    assert "interactions.csv: column 'item_id' is missing" in text and "'item'" in text
    (path / "interactions.csv").unlink()
    assert "looked for interactions.csv, interactions.tsv, interactions.parquet, plain, .gz or .zst" in refused(path)
    (path / "interaction.csv").write_text("x")
    assert "did you mean interaction.csv?" in refused(path)
    no_ids = folder(tmp_path / "b", items=[{"id": "a", "title": "x"}])
    assert "items.jsonl: column item_id is missing" in refused(no_ids)
    twice = folder(tmp_path / "c")
    (twice / "items.parquet").write_bytes(b"")
    assert "keep one of them" in refused(twice)


def test_empty_files(tmp_path: Path) -> None:
    assert "there are no interactions" in refused(folder(tmp_path / "a", rows=[]))
    empty = folder(tmp_path / "b")
    for content in (b"", b"\n", b"\xef\xbb\xbf"):
        (empty / "interactions.csv").write_bytes(content)
        assert "interactions.csv: the file is empty" in refused(empty)
    no_items = folder(tmp_path / "c", items=[])
    assert "items.jsonl: the catalogue is empty" in refused(no_items)


def test_a_column_twice(tmp_path: Path) -> None:
    path = folder(tmp_path, header="user_id,item_id,timestamp,user_id", rows=[f"{row},x" for row in ROWS])
    assert "column 'user_id' stands there twice" in refused(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_a_truncated_archive(tmp_path: Path, suffix: str, kept: float) -> None:
    path = folder(tmp_path)
    content = (HEADER + "\n" + "\n".join(f"u{n},a,{n * 7919 % 10007}" for n in range(5000))).encode()
    packed = gzip.compress(content) if suffix == ".gz" else zstandard.compress(content)
    (path / "interactions.csv").unlink()
    (path / f"interactions.csv{suffix}").write_bytes(packed[: int(len(packed) * kept)])
    text = refused(path)
    assert f"interactions.csv{suffix}: damaged or cut off" in text
    broken = bytearray(packed)
    broken[len(packed) // 2 : len(packed) // 2 + 40] = b"\0" * 40
    (path / f"interactions.csv{suffix}").write_bytes(broken)
    assert "damaged or cut off" in refused(path)


def test_unknown_items_are_refused_dropped_or_kept_bare(tmp_path: Path) -> None:
    path = folder(tmp_path, rows=[*ROWS, "u2,zz,9", "u2,zz,10"])
    assert "2 interactions with 1 items that the catalogue lacks, for example 'zz'" in refused(path)
    with console.capture() as captured:
        assert len(read(path, unknown_items="drop").interactions) == 4
        kept = read(path, unknown_items="keep")
    assert captured.get().count("2 interactions with 1 items") == 2
    assert len(kept.interactions) == 6 and kept.catalogue.row(3) == ("zz", None, None, None, None, None, None)


@pytest.mark.skipif("DIG_DATA_ROOT" not in os.environ, reason="DIG_DATA_ROOT names no real data")
@pytest.mark.parametrize(
    ("name", "users", "items", "interactions"),
    [("beauty", 22363, 12101, 198502), ("sports", 35598, 18357, 296337), ("industrial", 7595, 1204, 17185)],
)
def test_real_counts(name: str, users: int, items: int, interactions: int) -> None:
    tables = read(Path(os.environ["DIG_DATA_ROOT"]) / name)
    found = tables.interactions["user_id"].n_unique(), len(tables.catalogue), len(tables.interactions)
    assert found == (users, items, interactions) and tables.bad_rows == 0


@pytest.mark.parametrize(
    ("users", "items"),
    [
        (pl.Series([1, 2]), pl.Series([3, 4])),
        (pl.Series([1.0, 2.0]), pl.Series([3.0, 4.0])),
        (pl.Series([b"1", b"2"]), pl.Series(["3", "4"], dtype=pl.Categorical)),
        (pl.Series(["1", "2"], dtype=pl.Enum(["1", "2"])), pl.Series([3, 4], dtype=pl.Int8)),
        (pl.Series(["1.00", "2.00"]).str.to_decimal(scale=2), pl.Series(["3", "4"])),
    ],
)
def test_entry_5_ids_of_any_type_in_parquet(tmp_path: Path, users: pl.Series, items: pl.Series) -> None:
    """Entry 5: the user 1.0 of a float column is the user 1, and bytes and categories are their texts."""
    path = folder(tmp_path, items=[{"item_id": 3, "title": "x"}, {"item_id": "4", "title": "y"}])
    (path / "interactions.csv").unlink()
    frame = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": [1, 2]})
    frame.write_parquet(path / "interactions.parquet")
    assert read(path).interactions.rows() == [("1", "3", 1.0), ("2", "4", 2.0)]


def test_entry_5_nan_users_in_parquet_are_bad_rows(tmp_path: Path) -> None:
    """Entry 5: NaN is not one user with a tenth of all rows, and a rating of NaN is none."""
    path = folder(tmp_path, items=[{"item_id": "3", "title": "x"}])
    (path / "interactions.csv").unlink()
    nan = float("nan")
    frame = {
        "user_id": [1.0, nan, 2.5, None, 4.0, 5.0],
        "item_id": [3.0, 3.0, 3.0, 3.0, nan, 3.0],
        "timestamp": [1.0, 1.0, 1.0, 1.0, 1.0, nan],
        "rating": [nan, 5.0, 5.0, 5.0, 5.0, 5.0],
    }
    pl.DataFrame(frame).write_parquet(path / "interactions.parquet")
    with console.capture() as captured:
        tables = read(path, max_bad_fraction=1.0)
    assert tables.interactions.rows() == [("1", "3", 1.0, None)] and tables.problems[0].total == 6
    reasons = dict(tables.problems[0].rows)
    assert reasons[2] == "user_id is empty" == reasons[4] and reasons[5] == "item_id is empty"
    assert reasons[3] == "user_id must be text or a whole number, it is 2.5" and "timestamp" in reasons[6]
    assert "interactions.parquet:2: user_id is empty" in captured.get()


def test_entry_8_two_tables_that_call_the_item_otherwise(tmp_path: Path) -> None:
    """Entry 8: sku in one table and id in the other are both the item."""
    path = folder(tmp_path, header="customer,sku,timestamp", items=[{"id": i["item_id"], "title": "T"} for i in ITEMS])
    columns = {"user_id": "customer", "interactions": {"item_id": "sku"}, "items": {"item_id": "id"}}
    assert read(path, columns=columns).interactions.equals(read(folder(tmp_path / "plain")).interactions)
    flat = refused(path, columns={"user_id": "customer", "item_id": "sku"})
    assert "column sku is missing" in flat and "items: {item_id: …}" in flat


@pytest.mark.parametrize("name", ["interactions.csv", "interactions.parquet"])
def test_newcomers_3_an_optional_column_that_is_mapped_must_be_there(tmp_path: Path, name: str) -> None:
    """The newcomers' third: rating: starz is refused with the nearest, and an unused column is named."""
    path = folder(tmp_path, header=f"{HEADER},stars,shop", rows=[f"{row},5,x" for row in ROWS])
    if name.endswith("parquet"):
        pl.read_csv(path / "interactions.csv").write_parquet(path / name)
        (path / "interactions.csv").unlink()
    assert "column 'starz' is missing; did you mean 'stars'?" in refused(path, columns={"rating": "starz"})
    with console.capture() as captured:
        assert read(path, columns={"rating": "stars"}).interactions["rating"].to_list() == [5.0] * 4
    assert "column ignored: 'shop'" in captured.get()


def test_files_of_any_name(tmp_path: Path) -> None:
    """The newcomers' first: tables need not be renamed."""
    path = folder(tmp_path)
    (path / "interactions.csv").rename(path / "sales.csv")
    (path / "items.jsonl").rename(path / "films 2024.jsonl")
    named = read(path, files=FilesConfig("sales.csv", "films 2024.jsonl"))
    assert named.interactions.equals(read(folder(tmp_path / "plain")).interactions)
    assert "did you mean sales.csv?" in refused(path, files=FilesConfig("sale.csv", "films 2024.jsonl"))
    assert "must lie in data.path" in refused(path, files=FilesConfig("../sales.csv", None))
    (path / "sales.xlsx").write_bytes(b"PK")
    assert "must end in .csv, .tsv, .parquet" in refused(path, files=FilesConfig("sales.xlsx", None))
    assert "is for data.source=tables" in refused(path, source="movielens", columns={"title": "x"})
