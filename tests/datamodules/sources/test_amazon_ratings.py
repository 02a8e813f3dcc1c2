"""Amazon's ratings without reviews, of three releases."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from datamodules.sources import detect_source, read_source
from datamodules.sources.amazon_ratings import item_column
from datamodules.sources.base import Tables
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.engine.console import console

ROWS = [
    ("A39HTATAQ9V7YF", "0205616461", 5.0, 1369699200),
    ("A3JM6GV9MNOF9X", "B00LORWRJA", 3.0, 1355443200),
    ("#oc-R11EYSFUC7RJZ4", "013903467X", 4.0, 1404691200),
]
LONG = [("AGKHLEW2SOWHNMFQIJGBECAF7INQ", "B081TJ8YS3", 4.0, 1588615855070)]
META = [{"asin": item, "title": f"Title {item}"} for _, item, _, _ in ROWS]


def lines(order: str, rows: list[tuple] = ROWS) -> str:
    places = {"user": 0, "item": 1}
    first, second = (places[name] for name in order.split(","))
    return "".join(f"{row[first]},{row[second]},{row[2]},{row[3]}\n" for row in rows)


def read(path: Path, source: str, **settings: object) -> tuple[Tables, str]:
    with console.capture() as captured:
        tables = read_source(DataConfig(source=source, path=str(path), **settings))  # type: ignore[arg-type]
    return tables, captured.get()


CASES = [
    ("amazon2014", "ratings_Beauty.csv", lines("user,item")),
    ("amazon2018", "Beauty.csv", lines("item,user")),
    ("amazon2014", "ratings_Beauty.csv", "UserId,ProductId,Rating,Timestamp\n" + lines("user,item")),
    ("amazon2018", "Beauty.csv", lines("item,user").replace("\n", "\r\n")),
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
    tables, said = read(tmp_path, source)
    assert tables.interactions.rows() == [(user, item, float(time), stars) for user, item, stars, time in ROWS]
    titles = [record["title"] for record in META] if metadata else [None] * 3
    assert tables.catalogue["item_id"].to_list() == [record["asin"] for record in META]
    assert tables.catalogue["title"].to_list() == titles
    assert ("3 × item without any text" in said) != metadata
    assert [found.in_file for found in tables.problems] == ([3, 3] if metadata else [3])


def test_entry_21_ratings_of_2023_without_metadata(tmp_path: Path):
    """Entry 21: the latest release has a header and milliseconds."""
    (tmp_path / "All_Beauty.csv.gz").write_bytes(
        gzip.compress(b"user_id,parent_asin,rating,timestamp\n" + lines("user,item", LONG).encode())
    )
    assert detect_source(tmp_path) == "amazon2023"
    tables, _ = read(tmp_path, "amazon2023")
    assert tables.interactions.rows() == [(LONG[0][0], LONG[0][1], 1588615855.07, 4.0)]
    assert tables.catalogue["item_id"].to_list() == ["B081TJ8YS3"]


def test_entry_21_reviews_come_first_and_bad_lines_are_counted(tmp_path: Path):
    """Entry 21: where reviews lie there, too, they are read; each line of ratings is a row or a bad row."""
    good = lines("item,user") * 100
    (tmp_path / "Beauty.csv").write_text(f"{good}\nB00LORWRJA,A1,5.0\nB00LORWRJA,A1,5.0,later\n,A1,5.0,1355443200\n")
    (tmp_path / "meta_Beauty.json").write_text("\n".join(map(json.dumps, META)))
    tables, said = read(tmp_path, "amazon2018", max_bad_fraction=0.02)
    assert len(tables.interactions) == 300 and tables.problems[0].in_file == 303
    for line in (
        "Beauty.csv:302: 3 fields instead of 4",
        "Beauty.csv:303: timestamp later",
        "Beauty.csv:304: item_id is empty",
    ):
        assert line in said
    review = {"reviewerID": "A1", "asin": "B00LORWRJA", "overall": 5.0, "unixReviewTime": 1355443200}
    (tmp_path / "Beauty.json").write_text(json.dumps(review))
    assert len(read(tmp_path, "amazon2018")[0].interactions) == 1


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
        read(tmp_path, "amazon2018")
    with pytest.raises(UserError, match=r"no known data; .*python -m dig\.data init"):
        detect_source(tmp_path)
