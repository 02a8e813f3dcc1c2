"""The fast way and the careful way read the same."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.sources import csv_table, lines
from datamodules.sources.base import Problems
from datamodules.sources.csv_table import read_csv
from datamodules.sources.lines import ReviewFields, read_reviews

COLUMNS = {"user_id": "u", "item_id": "i", "timestamp": "t", "rating": "r"}
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=6)
TIMES = st.one_of(
    st.integers(-3, 2_000_000_000).map(str),
    st.floats(allow_nan=True).map(str),
    st.sampled_from(["", "soon", "2018-03-01", "2018-03-01T10:00:00", " 7 ", "1e9"]),
)
RATINGS = st.sampled_from(["", "5", "4.5", "x"])


def both_ways(path: Path) -> list[tuple[pl.DataFrame, list[tuple[int, str]], int]]:
    found = []
    for careful in (False, True):
        problems = Problems(path)
        with patch.object(csv_table, "_whole", (lambda *_: None) if careful else csv_table._whole):
            found.append((read_csv(path, COLUMNS, problems), sorted(problems.rows), problems.total))
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, TIMES, RATINGS), max_size=12), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_tables(rows: list[tuple[str, str, str, str]], end: str, quoted: bool):
    if not quoted:  # a bare carriage return is a line end to some and a character to others
        rows = [tuple(value.replace("\r", "") for value in row) for row in rows]  # type: ignore[misc]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator=end, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows([("u", "i", "t", "r"), *rows])
    with TemporaryDirectory() as name:
        path = Path(name) / "x.csv"
        path.write_bytes(stream.getvalue().encode())
        (fast, fast_bad, fast_total), (careful, careful_bad, careful_total) = both_ways(path)
    assert fast.equals(careful) and fast_bad == careful_bad and fast_total == careful_total == len(rows)
    good = [row for row in rows if row[0] and row[1]]
    assert len(careful) <= len(good) and len(careful) + len(careful_bad) == len(rows)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            TEXT,
            TEXT,
            st.one_of(st.integers(-2, 10**10), st.floats(allow_nan=False, width=32), TEXT),
            st.one_of(st.none(), st.integers(0, 5), st.floats(0, 5)),
        ),
        max_size=12,
    )
)
def test_json_lines(rows: list[tuple[str, str, object, object]]):
    fields = ReviewFields("u", "i", "t", "r")
    text = "".join(json.dumps(dict(zip("uitr", row, strict=True))) + "\n" for row in rows)
    found = []
    with TemporaryDirectory() as name:
        path = Path(name) / "x.jsonl"
        path.write_text(text, encoding="utf-8")
        for careful in (False, True):
            problems = Problems(path)
            with patch.object(lines, "_whole", (lambda *_: None) if careful else lines._whole):
                found.append((read_reviews(path, fields, problems), sorted(problems.rows), problems.total))
    assert found[0][0].equals(found[1][0]) and found[0][1:] == found[1][1:]
    assert len(found[0][0]) + len(found[0][1]) == len(rows)
