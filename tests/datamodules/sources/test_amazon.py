"""Amazon's three releases, on real bytes where there are any, and on their quirks."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import polars as pl
import pytest
import zstandard

from datamodules.sources import catalogue, detect_source, read_source, source_files
from datamodules.sources.amazon import item_column
from datamodules.sources.base import Tables
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.engine.console import console

ROOT = Path(os.environ.get("DIG_DATA_ROOT", "")) / "raw"
real = pytest.mark.skipif("DIG_DATA_ROOT" not in os.environ, reason="DIG_DATA_ROOT names no real data")


def read(source: str, path: Path, **settings: object) -> tuple[Tables, str]:
    with console.capture() as captured:
        tables = read_source(DataConfig(source=source, path=str(path), **settings))  # type: ignore[arg-type]
    return tables, captured.get()


def refused(source: str, path: Path, **settings: object) -> str:
    with pytest.raises(UserError) as caught:
        read(source, path, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lines(path: Path, records: list[object], python: bool = False) -> None:
    path.write_text("".join(f"{record if python else json.dumps(record)}\n" for record in records), encoding="utf-8")


# --- 2014 ------------------------------------------------------------------------------------------------------------

OLD_ITEMS = [
    {
        "asin": "a",
        "title": "O'Neil's \"best\" caf\xe9",
        "price": 7.99,
        "imUrl": "http://h/a.jpg",
        "brand": None,
        "categories": [["Beauty", "Hair"], ["Beauty", "Gifts"]],
        "description": "It's &amp; <b>fine</b>",
    },
    {"asin": "b", "categories": [["Beauty"]], "salesRank": {"Beauty": 3}, "related": {"also_bought": ["a"]}},
]


def old_reviews(*pairs: tuple[str, str]) -> list[object]:
    return [
        {
            "reviewerID": user,
            "asin": item,
            "overall": 5.0,
            "unixReviewTime": 100 + number,
            "helpful": [0, 0],
            "reviewText": "t",
        }
        for number, (user, item) in enumerate(pairs)
    ]


def test_2014_metadata_are_python_dicts(tmp_path: Path):
    lines(tmp_path / "reviews_Beauty_5.json", old_reviews(("u", "a"), ("u", "b")))
    lines(tmp_path / "meta_Beauty.json", OLD_ITEMS, python=True)
    tables, said = read("amazon2014", tmp_path)
    assert tables.interactions.rows() == [("u", "a", 100.0, 5.0), ("u", "b", 101.0, 5.0)] and said == ""
    assert tables.catalogue.rows() == [
        ("a", "O'Neil's \"best\" café", None, ["Beauty", "Hair", "Gifts"], "It's & fine", 7.99, "http://h/a.jpg"),
        ("b", None, None, ["Beauty"], None, None, None),
    ]


def test_code_in_metadata_is_a_bad_row_and_never_runs(tmp_path: Path):
    trap = tmp_path / "ran"
    lines(tmp_path / "reviews_X.json", old_reviews(("u", "a")))
    touch = f"__import__('pathlib').Path({str(trap)!r}).touch()"
    code = [touch, "{'asin': open('/etc/passwd').read()}", "{'asin': ", "[1]", "(" * 500 + ")" * 500]
    (tmp_path / "meta_X.json").write_text("\n".join([*code, str(OLD_ITEMS[0])]))
    tables, said = read("amazon2014", tmp_path, max_bad_fraction=1.0)
    assert not trap.exists() and tables.catalogue["item_id"].to_list() == ["a"]
    assert [line for line, _ in tables.problems[1].rows] == [1, 2, 3, 4, 5]
    assert "meta_X.json:1: not a Python literal" in said and "holds a list, not an item" in said


def test_the_five_core_is_read_when_both_are_there(tmp_path: Path):
    lines(tmp_path / "reviews_X.json", old_reviews(("u", "a"), ("v", "a")))
    lines(tmp_path / "meta_X.json", OLD_ITEMS, python=True)
    assert len(read("amazon2014", tmp_path)[0].interactions) == 2
    lines(tmp_path / "reviews_X_5.json", old_reviews(("u", "a")))
    assert len(read("amazon2014", tmp_path)[0].interactions) == 1


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_large_metadata_on_all_cores_equal_those_on_one(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch):
    items = [{**OLD_ITEMS[0], "asin": str(number % 3000)} for number in range(4000)]
    content = "".join("broken\n" if number % 1000 == 7 else f"{item}\n" for number, item in enumerate(items)).encode()
    pack = gzip.compress if suffix == ".gz" else zstandard.compress
    (tmp_path / f"meta_X.json{suffix}").write_bytes(pack(content))
    lines(tmp_path / "reviews_X.json", old_reviews(("u", "0")))
    monkeypatch.setattr("datamodules.sources.streams._BLOCK", 20_000)
    one, said = read("amazon2014", tmp_path)
    monkeypatch.setattr(catalogue, "_POOLED", 0)
    many, _ = read("amazon2014", tmp_path)
    assert one.catalogue.equals(many.catalogue) and len(one.catalogue) == 2997
    assert one.problems[1].rows == many.problems[1].rows and [row for row, _ in one.problems[1].rows] == [
        8,
        1008,
        2008,
        3008,
    ]
    assert "999 × an item repeated, the first record is kept" in said


@real
def test_2014_real_reviews(tmp_path: Path):
    (tmp_path / "reviews_Musical_Instruments_5.json").symlink_to(
        ROOT / "amazon2014_instruments_sample" / "reviews_Musical_Instruments_5.json"
    )
    lines(tmp_path / "meta_Musical_Instruments.json", [{"asin": "1384719342", "title": "x"}], python=True)
    tables, _ = read("amazon2014", tmp_path, unknown_items="keep")
    assert len(tables.interactions) == 50 and tables.bad_rows == 0
    assert tables.interactions.row(0) == ("A2IBPI20UZIR0U", "1384719342", 1393545600.0, 5.0)


# --- 2018 ------------------------------------------------------------------------------------------------------------


def new_items(*records: dict[str, object]) -> list[object]:
    return [{"asin": str(number), "title": "x", **record} for number, record in enumerate(records)]


@pytest.mark.parametrize(
    ("record", "column", "expected"),
    [
        ({"title": "Maggiano&#39;s &amp;amp; Co &gt;&gt;"}, "title", "Maggiano's & Co >>"),
        ({"title": "<span class='a'>Tea</span>  set"}, "title", "Tea set"),
        ({"title": "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();"}, "title", None),
        ({"title": ""}, "title", None),
        ({"description": ["One.", "", "<p>Two &lt; three</p><script>x()</script>"]}, "description", "One. Two < three"),
        ({"description": "plain"}, "description", "plain"),
        ({"price": "$1,250.00"}, "price", 1250.0),
        ({"price": "$5.99 - $9.99"}, "price", 5.99),
        ({"price": ".a-box-inner{background-color:#fff}#alohaBuyBoxWidget .selected{background"}, "price", None),
        ({"price": ""}, "price", None),
        ({"category": ["Gift Cards", "Gift &amp; more", "Gift Cards"]}, "categories", ["Gift Cards", "Gift & more"]),
        (
            {"imageURLHighRes": ["https://h/big.jpg", "x"], "imageURL": ["https://h/s.jpg"]},
            "image",
            "https://h/big.jpg",
        ),
        ({"imageURLHighRes": [], "imageURL": ["https://h/s.jpg"]}, "image", "https://h/s.jpg"),
        ({"imageURLHighRes": []}, "image", None),
    ],
)
def test_2018_quirks(tmp_path: Path, record: dict[str, object], column: str, expected: object):
    lines(tmp_path / "X_5.json", old_reviews(("u", "0")))
    lines(tmp_path / "meta_X.json", new_items(record))
    assert read("amazon2018", tmp_path)[0].catalogue[column].to_list() == [expected]


BAD = [
    ("{broken", "not JSON: Expecting property name enclosed in double quotes at column 2"),
    ("[1]", "holds a list, not a review"),
    ('{"asin": "0", "overall": 1, "unixReviewTime": 5}', "reviewerID is missing"),
    ('{"reviewerID": "", "asin": "0", "overall": 1, "unixReviewTime": 5}', "reviewerID is empty"),
    ('{"reviewerID": ["u"], "asin": "0", "overall": 1, "unixReviewTime": 5}', "reviewerID must be text, it is a list"),
    ('{"reviewerID": "u", "asin": "0", "overall": null, "unixReviewTime": 5}', "overall is null"),
    (
        '{"reviewerID": "u", "asin": "0", "overall": 1, "unixReviewTime": "June"}',
        "unixReviewTime 'June' is not a number",
    ),
    ('{"reviewerID": "u", "asin": "0", "overall": 1, "unixReviewTime": -5}', "unixReviewTime -5 is negative"),
    ('{"reviewerID": "u", "asin": "0", "overall": NaN, "unixReviewTime": 5}', "overall 'nan' is not a number"),
    ('{"reviewerID": "u", "asin": "0", "overall": 1', "not JSON: Expecting ',' delimiter at column 46"),
    ('{"reviewerID": "caf\udce9", "asin": "0", "overall": 1, "unixReviewTime": 5}', "reviewerID is not UTF-8"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_bad_review_costs_itself_alone(tmp_path: Path, line: str, reason: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datamodules.sources.streams._PIECE", 999)
    monkeypatch.setattr("datamodules.sources.streams._BLOCK", 5_000)
    good = [json.dumps(review) for review in old_reviews(*[(f"u{number}", "0") for number in range(300)])]
    content = "\n".join([*good[:200], "", line, *good[200:]]) + "\n"
    (tmp_path / "X_5.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    lines(tmp_path / "meta_X.json", new_items({}))
    tables, said = read("amazon2018", tmp_path)
    assert f"X_5.json:202: {reason}; the row is left out" in said
    assert tables.interactions["user_id"].to_list() == [f"u{number}" for number in range(300)]
    assert tables.problems[0].total == 301
    assert "1 of 301 rows (0.3%) cannot be read" in refused("amazon2018", tmp_path, max_bad_fraction=0.0)


def test_odd_but_readable_reviews_are_read(tmp_path: Path):
    odd = [
        '{"reviewerID": 7, "asin": "0", "overall": "4.0", "unixReviewTime": "5"}',
        '{"reviewerID": "u\\u00e9\\n", "asin": "0", "overall": 1, "unixReviewTime": 1e3}',
    ]
    (tmp_path / "X_5.json").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(odd).encode())
    lines(tmp_path / "meta_X.json", new_items({}))
    found = read("amazon2018", tmp_path)[0].interactions
    assert found.rows() == [("7", "0", 5.0, 4.0), ("ué\n", "0", 1000.0, 1.0)]


@real
def test_2018_real_gift_cards():
    tables, said = read("amazon2018", ROOT / "amazon2018_gift_cards")
    interactions, catalogue = tables.interactions, tables.catalogue
    assert len(interactions) == 2972 and interactions["user_id"].n_unique() == 458 and said == ""
    assert interactions["item_id"].n_unique() == 148 and len(catalogue) == 1547 and tables.bad_rows == 0
    assert catalogue["image"].is_not_null().sum() == 660 and catalogue["price"].is_not_null().sum() == 358
    titles = pl.concat([catalogue["title"], catalogue["description"]]).drop_nulls()
    assert not titles.str.contains(r"&[a-z#0-9]+;").any()
    assert "Maggiano's Gift Card" in catalogue["title"].to_list()


@real
def test_2018_a_null_rating_in_the_damaged_fashion_file(tmp_path: Path):
    (tmp_path / "AMAZON_FASHION_5.json.gz").symlink_to(ROOT / "amazon2018_fashion_damaged" / "AMAZON_FASHION_5.json.gz")
    lines(tmp_path / "meta_AMAZON_FASHION.json", new_items({}))
    tables, said = read("amazon2018", tmp_path, unknown_items="keep")
    assert "AMAZON_FASHION_5.json.gz:2: overall is null; the row is left out" in said
    assert tables.bad_rows == 1 and len(tables.interactions) == 3175
    assert "1 of 3176 rows (0.0%)" in refused("amazon2018", tmp_path, unknown_items="keep", max_bad_fraction=0.0)


# --- 2023 ------------------------------------------------------------------------------------------------------------


def latest(folder: Path) -> Path:
    images = [{"thumb": "t", "large": "l", "hi_res": None}, {"thumb": "t", "large": "l2", "hi_res": "https://h/2"}]
    item = {
        "parent_asin": "p",
        "title": "A &amp; B",
        "store": "Shop",
        "categories": ["X", "Y"],
        "features": ["<b>f</b>"],
        "description": ["d"],
        "price": "None",
        "images": images,
    }
    lines(folder / "meta_X.jsonl", [item, {"parent_asin": "q", "title": "Q", "price": 3.5, "images": []}])
    return folder


def test_2023_reviews_count_milliseconds_and_parents(tmp_path: Path):
    lines(
        latest(tmp_path) / "X.jsonl",
        [{"user_id": "u", "asin": "child", "parent_asin": "p", "rating": 4.0, "timestamp": 1588687728923, "text": "t"}],
    )
    tables, _ = read("amazon2023", tmp_path)
    assert tables.interactions.rows() == [("u", "p", 1588687728.923, 4.0)]
    assert tables.catalogue.rows() == [
        ("p", "A & B", "Shop", ["X", "Y"], "d f", None, "https://h/2"),
        ("q", "Q", None, None, None, 3.5, None),
    ]


def test_2023_published_ratings_and_splits(tmp_path: Path):
    header = "user_id,parent_asin,rating,timestamp"
    (latest(tmp_path) / "X.csv").write_text(f"{header}\nu,p,5.0,1000\nu,q,3.0,2000\n")
    assert read("amazon2023", tmp_path)[0].interactions.rows() == [("u", "p", 1.0, 5.0), ("u", "q", 2.0, 3.0)]
    assert "no train part of the published split; looked for X.train.csv" in refused(
        "amazon2023", tmp_path, split="published"
    )
    for part, rows in (("train", "u,p,5.0,1000,"), ("valid", "u,q,4.0,2000,p"), ("test", "u,p,3.0,2000,p q")):
        (tmp_path / f"X.{part}.csv.gz").write_bytes(gzip.compress(f"{header},history\n{rows}\n".encode()))
    assert len(read("amazon2023", tmp_path)[0].interactions) == 2  # the whole file wins when no split is asked for
    tables, said = read("amazon2023", tmp_path, split="published")
    assert tables.interactions.select("item_id", "timestamp", "part").rows() == [
        ("p", 1.0, 0),
        ("q", 2.0, 1),
        ("p", 2.0, 2),
    ]
    assert said == ""  # the history column is known
    (tmp_path / "X.csv").unlink()
    assert "part" in read("amazon2023", tmp_path)[0].interactions.columns


# --- files ----------------------------------------------------------------------------------------------------------


def test_missing_files_and_several_categories(tmp_path: Path):
    assert "no metadata file meta_<category>.json, plain, .gz or .zst; it has: nothing" in refused(
        "amazon2018", tmp_path
    )
    lines(tmp_path / "meta_Gift_Cards.json", new_items({}))
    assert "looked for Gift_Cards.json, Gift_Cards_5.json" in refused("amazon2018", tmp_path)
    lines(tmp_path / "Gift_Card_5.json", old_reviews(("u", "0")))
    assert "did you mean Gift_Card_5.json?" in refused("amazon2018", tmp_path)
    lines(tmp_path / "meta_Beauty.json", new_items({}))
    assert "several categories: Beauty, Gift_Cards; name one with data.category=" in refused("amazon2018", tmp_path)
    lines(tmp_path / "Gift_Cards_5.json", old_reviews(("u", "0")))
    found = source_files(DataConfig(source="amazon2018", path=str(tmp_path), category="Gift_Cards"))
    assert {key: path.name for key, path in found.items()} == {
        "reviews": "Gift_Cards_5.json",
        "metadata": "meta_Gift_Cards.json",
    }
    (tmp_path / "Gift_Cards_5.json.gz").write_bytes(b"")
    assert "keep one of them" in refused("amazon2018", tmp_path, category="Gift_Cards")


@pytest.mark.parametrize(
    ("names", "source"),
    [
        (["interactions.csv", "items.jsonl"], "tables"),
        (["reviews_X_5.json.gz", "meta_X.json.gz"], "amazon2014"),
        (["X_5.json.gz", "meta_X.json.gz"], "amazon2018"),
        (["X.csv.gz", "meta_X.jsonl.gz"], "amazon2023"),
        (["ratings.dat", "movies.dat"], "movielens"),
        (["ratings.csv", "movies.csv", "tags.csv"], "movielens"),
    ],
)
def test_a_folder_tells_its_source(names: list[str], source: str, tmp_path: Path):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert detect_source(tmp_path) == source


def test_a_folder_of_something_else(tmp_path: Path):
    (tmp_path / "cats.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"no known data; looked for .* name it with data\.source="):
        detect_source(tmp_path)


@pytest.mark.parametrize(
    ("record", "column", "expected"),
    [
        ({"category": float("nan")}, "categories", None),
        ({"category": "Home"}, "categories", ["Home"]),
        ({"category": "['Home', 'Soap']"}, "categories", ["Home", "Soap"]),
        ({"title": float("nan")}, "title", None),
        ({"description": [float("nan"), "text"]}, "description", "text"),
        ({"description": "[]"}, "description", None),
        ({"imageURL": float("nan")}, "image", None),
    ],
)
def test_entry_5_metadata_that_another_program_wrote_again(
    tmp_path: Path, record: dict[str, object], column: str, expected: object
):
    """Entries 4 and 5: NaN and lists as text in Amazon's metadata are what they are in tables of one's own."""
    lines(tmp_path / "meta_X.json", [{"asin": "A", "title": "T", **record}])
    review = {"reviewerID": "U", "asin": "A", "overall": 5.0, "unixReviewTime": 1_400_000_000}
    lines(tmp_path / "X_5.json", [review])
    found = read("amazon2018", tmp_path)[0].catalogue[column][0]
    assert (found.to_list() if isinstance(found, pl.Series) else found) == expected


def test_entry_2_parts_of_a_split_whose_times_cannot_stand_together(tmp_path: Path):
    lines(tmp_path / "meta_X.jsonl", [{"parent_asin": "A", "title": "T", "images": float("nan")}])
    for part, time in (("train", 1_600_000_000_000), ("valid", 1_600_000_001_000_000_001), ("test", 1_600_000_002_000)):
        (tmp_path / f"X.{part}.csv").write_text(f"user_id,parent_asin,rating,timestamp\nU,A,5.0,{time}\n")
    said = refused("amazon2023", tmp_path, split="published")
    assert "X.train.csv, X.valid.csv, X.test.csv differ: one has times in nanoseconds" in said


ROWS = [
    ("A39HTATAQ9V7YF", "0205616461", 5.0, 1369699200),
    ("A3JM6GV9MNOF9X", "B00LORWRJA", 3.0, 1355443200),
    ("#oc-R11EYSFUC7RJZ4", "013903467X", 4.0, 1404691200),
]
LONG = [("AGKHLEW2SOWHNMFQIJGBECAF7INQ", "B081TJ8YS3", 4.0, 1588615855070)]
META = [{"asin": item, "title": f"Title {item}"} for _, item, _, _ in ROWS]


def amazon_ratings_lines(order: str, rows: list[tuple] = ROWS) -> str:
    places = {"user": 0, "item": 1}
    first, second = (places[name] for name in order.split(","))
    return "".join(f"{row[first]},{row[second]},{row[2]},{row[3]}\n" for row in rows)


def amazon_ratings_read(path: Path, source: str, **settings: object) -> tuple[Tables, str]:
    with console.capture() as captured:
        tables = read_source(DataConfig(source=source, path=str(path), **settings))  # type: ignore[arg-type]
    return tables, captured.get()


CASES = [
    ("amazon2014", "ratings_Beauty.csv", amazon_ratings_lines("user,item")),
    ("amazon2018", "Beauty.csv", amazon_ratings_lines("item,user")),
    ("amazon2014", "ratings_Beauty.csv", "UserId,ProductId,Rating,Timestamp\n" + amazon_ratings_lines("user,item")),
    ("amazon2018", "Beauty.csv", amazon_ratings_lines("item,user").replace("\n", "\r\n")),
]


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize(("source", "name", "content"), CASES)
def test_entry_21_ratings_alone(tmp_path: Path, source: str, name: str, content: str, metadata: bool):
    """Entry 21: user and item are told apart by what stands there, with metadata beside them and without."""
    (tmp_path / name).write_text(content)
    if metadata:
        write = str if source == "amazon2014" else json.dumps
        (tmp_path / "meta_Beauty.json").write_text("\n".join(map(write, META)))
    assert detect_source(tmp_path) == source
    tables, said = amazon_ratings_read(tmp_path, source)
    assert tables.interactions.rows() == [(user, item, float(time), stars) for user, item, stars, time in ROWS]
    titles = [record["title"] for record in META] if metadata else [None] * 3
    assert tables.catalogue["item_id"].to_list() == [record["asin"] for record in META]
    assert tables.catalogue["title"].to_list() == titles
    assert ("3 × item without any text" in said) != metadata
    assert [found.in_file for found in tables.problems] == ([3, 3] if metadata else [3])


def test_entry_21_ratings_of_2023_without_metadata(tmp_path: Path):
    """Entry 21: the latest release has a header and milliseconds."""
    (tmp_path / "All_Beauty.csv.gz").write_bytes(
        gzip.compress(b"user_id,parent_asin,rating,timestamp\n" + amazon_ratings_lines("user,item", LONG).encode())
    )
    assert detect_source(tmp_path) == "amazon2023"
    tables, _ = amazon_ratings_read(tmp_path, "amazon2023")
    assert tables.interactions.rows() == [(LONG[0][0], LONG[0][1], 1588615855.07, 4.0)]
    assert tables.catalogue["item_id"].to_list() == ["B081TJ8YS3"]


def test_entry_21_reviews_come_first_and_bad_lines_are_counted(tmp_path: Path):
    """Entry 21: where reviews lie there, too, they are read; each line of ratings is a row or a bad row."""
    good = amazon_ratings_lines("item,user") * 100
    (tmp_path / "Beauty.csv").write_text(f"{good}\nB00LORWRJA,A1,5.0\nB00LORWRJA,A1,5.0,later\n,A1,5.0,1355443200\n")
    (tmp_path / "meta_Beauty.json").write_text("\n".join(map(json.dumps, META)))
    tables, said = amazon_ratings_read(tmp_path, "amazon2018", max_bad_fraction=0.02)
    assert len(tables.interactions) == 300 and tables.problems[0].in_file == 303
    for line in (
        "Beauty.csv:302: 3 fields instead of 4",
        "Beauty.csv:303: timestamp later",
        "Beauty.csv:304: item_id is empty",
    ):
        assert line in said
    review = {"reviewerID": "A1", "asin": "B00LORWRJA", "overall": 5.0, "unixReviewTime": 1355443200}
    (tmp_path / "Beauty.json").write_text(json.dumps(review))
    assert len(amazon_ratings_read(tmp_path, "amazon2018")[0].interactions) == 1


def test_entry_21_other_tables_are_no_ratings(tmp_path: Path):
    """Entry 21: what cannot be told apart is not guessed."""
    for content in (
        "1,2,5.0,1355443200\n",
        "user_id,item_id,timestamp\nu,a,1\n",
        "",
        "B00LORWRJA,B00LORWRJB,5.0,1355443200\n",
    ):
        (tmp_path / "x.csv").write_text(content)
        assert item_column(tmp_path / "x.csv") is None
    with pytest.raises(UserError, match="no metadata file"):
        amazon_ratings_read(tmp_path, "amazon2018")
    with pytest.raises(UserError, match=r"no known data; .*python -m dig\.data init"):
        detect_source(tmp_path)
