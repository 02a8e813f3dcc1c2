"""Files of other models and of people, read as untrusted text."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import polars as pl
import pytest

from dig.config import UserError
from dig.interests import (
    INTEREST_SCHEMA,
    USER_INTEREST_SCHEMA,
    Interest,
    read_captions,
    read_interests,
    read_labels,
    read_user_interests,
    to_frame,
)
from dig.interests.reading import MAX_CAPTION, MAX_INTEREST

GOOD = {"item_id": "A", "miner": "m", "kind": "text", "interests": [{"text": "soft"}]}


@pytest.fixture
def write(tmp_path):
    def to_file(*lines: object, name: str = "interests.jsonl") -> str:
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        path = tmp_path / name
        data = b"\n".join(raw) + b"\n"
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return to_file


@pytest.mark.parametrize("name", ["interests.jsonl", "interests.jsonl.gz"])
def test_reads_plain_and_gzipped(write, name):
    line = GOOD | {"kind": "visual", "interests": [{"text": "Red"}, {"text": "gold", "confidence": 0.25}]}
    read = read_interests(write(line, b"", GOOD | {"item_id": "B"}, name=name), ["A", "B"])
    assert read.interests.schema == INTEREST_SCHEMA
    assert read.interests.select("item_id", "text", "kind", "confidence", "miner").rows() == [
        ("A", "Red", "visual", None, "m"),
        ("A", "gold", "visual", 0.25, "m"),
        ("B", "soft", "text", None, "m"),
    ]
    assert (read.log.lines, read.log.bad_lines) == (2, 0)


BAD_LINES = [
    (b"{not json", "no JSON"),
    (b"\xff\xfe\x00", "no UTF-8"),
    (b"[" * 100_000, "no JSON"),
    (b'{"item_id": ' + b"9" * 5000 + b"}", "no JSON"),
    ([1, 2], "JSON object"),
    (GOOD | {"item_id": 7}, "item_id"),
    (GOOD | {"item_id": ""}, "item_id"),
    (GOOD | {"miner": None}, "miner"),
    (GOOD | {"kind": "smell"}, "kind"),
    (GOOD | {"kind": ["text"]}, "kind"),
    (GOOD | {"interests": "soft"}, "interests"),
    (GOOD | {"interests": ["soft"]}, "interest 1"),
    (GOOD | {"interests": [{"text": "soft"}, {"text": 3}]}, "interest 2"),
    (GOOD | {"interests": [{"text": " \u0007\u200b "}]}, "blank"),
    (GOOD | {"interests": [{"text": "a", "confidence": 1.2}]}, "confidence"),
    (GOOD | {"interests": [{"text": "a", "confidence": "high"}]}, "confidence"),
    (GOOD | {"interests": [{"text": "a", "confidence": True}]}, "confidence"),
    (b'{"item_id":"A","miner":"m","kind":"text","interests":[{"text":"a","confidence":NaN}]}', "confidence"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_is_left_out_whole_counted_and_named(write, line, reason):
    path = write(GOOD, line)
    read = read_interests(path, ["A"], max_bad_fraction=0.5)
    assert read.interests["text"].to_list() == ["soft"]
    assert (read.log.lines, read.log.bad_lines) == (2, 1)
    assert read.log.examples[0].startswith(f"{path}:2: ") and reason in read.log.examples[0]
    assert "1 bad" in read.log.summary()
    with pytest.raises(UserError, match=r":2: .*1 of 2 lines are bad") as refused:
        read_interests(path, ["A"])
    assert "\n" not in str(refused.value)


def test_one_percent_is_tolerated_and_not_more(write):
    lines = [GOOD | {"item_id": f"I{n}"} for n in range(99)]
    items = [f"I{n}" for n in range(99)]
    assert read_interests(write(*lines, b"x"), items).log.bad_lines == 1
    with pytest.raises(UserError, match="2 of 100"):
        read_interests(write(*lines[:98], b"x", b"y"), items)


def test_unknown_items_are_counted_and_said(write):
    read = read_interests(write(GOOD, GOOD | {"item_id": "Z"}, GOOD | {"item_id": "Z"}), ["A"])
    assert read.interests["item_id"].to_list() == ["A"]
    assert dict(read.log.unknown) == {"Z": 2}
    assert "1 ids unknown to the data ('Z')" in read.log.summary()


def test_duplicates_and_empty_lists_are_counted(write):
    twice = GOOD | {"interests": [{"text": "Soft"}, {"text": "soft\t"}, {"text": "new"}]}
    read = read_interests(write(twice, GOOD, GOOD | {"interests": []}), ["A"])
    assert read.interests["text"].to_list() == ["Soft", "new"]
    assert (read.log.duplicates, read.log.empty) == (2, 1)


def test_untrusted_text_is_cleaned_and_cut(write):
    nasty = "\u001b[31mred\u0000\tdress\u202e \ud800"
    read = read_interests(write(GOOD | {"interests": [{"text": nasty}, {"text": "x" * 10_000_000}]}), ["A"])
    assert read.interests["text"].to_list() == ["[31mred dress", "x" * MAX_INTEREST]
    assert read.log.cut == 1


def test_missing_damaged_and_binary_files_end_in_one_line(tmp_path, write):
    with pytest.raises(UserError, match=r"nowhere\.jsonl does not exist"):
        read_interests(tmp_path / "nowhere.jsonl", ["A"])
    with pytest.raises(UserError, match="not a file"):
        read_interests(tmp_path, ["A"])
    whole = write(*[GOOD | {"interests": [{"text": os.urandom(20).hex()}]}] * 500, name="cut.jsonl.gz")
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(UserError, match="cannot be read to its end"):
        read_interests(whole, ["A"])
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(bytes(range(128, 256)) * 50)
    with pytest.raises(UserError, match=r"binary\.jsonl:1: no UTF-8"):
        read_interests(binary, ["A"])


def test_an_empty_file_has_no_interests(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    read = read_interests(tmp_path / "empty.jsonl", ["A"])
    assert read.interests.is_empty() and read.interests.schema == INTEREST_SCHEMA


def test_captions(write):
    lines = [{"item_id": item, "miner": "v", "caption": text} for item, text in [("A", "a\nred box"), ("A", "other")]]
    lines += [{"item_id": "B", "miner": "v", "caption": ""}, {"item_id": "Z", "miner": "v", "caption": "x"}]
    lines += [{"item_id": "C", "miner": "v", "caption": "word " * 2000}, {"item_id": "C", "miner": "v", "caption": 5}]
    captions = read_captions(write(*lines), ["A", "B", "C"], max_bad_fraction=0.2)
    assert captions["A"] == "a red box"
    assert len(captions["C"]) <= MAX_CAPTION
    assert set(captions) == {"A", "C"}
    log = captions.log
    assert (log.duplicates, log.empty, log.cut, log.bad_lines, dict(log.unknown)) == (2, 1, 1, 0, {"Z": 1})
    with pytest.raises(UserError, match="caption must be text"):
        read_captions(write({"item_id": "A", "miner": "v", "caption": None}), ["A"])


@pytest.mark.parametrize(("name", "items", "interests"), [("beauty", 12_101, 60_495), ("sports", 18_357, 91_773)])
def test_real_interests(real_data, real_catalogue, name, items, interests):
    catalogue = real_catalogue(name)
    read = read_interests(real_data(name) / "interests.jsonl.gz", catalogue["item_id"])
    assert read.log.lines == read.interests["item_id"].n_unique() == items
    assert read.interests.height == interests and read.interests.height + read.log.duplicates == 5 * items
    assert (read.log.bad_lines, len(read.log.unknown)) == (0, 0)
    assert read.interests["confidence"].null_count() == interests
    assert read.interests.group_by("item_id").agg(pl.len())["len"].max() == 5


def test_real_captions(real_data, real_catalogue):
    captions = read_captions(
        real_data("industrial") / "image_captions.jsonl.gz", real_catalogue("industrial")["item_id"]
    )
    assert len(captions) == captions.log.lines == 1204
    assert captions["B07798DCSK"].startswith("A Loctite Super Glue Brush-On adhesive product")


GOOD_USER = {"user_id": "u", "miner": "m", "text": "likes \x1b[31mred\x1b[0m hats", "items_seen": ["a", "b"]}


def write_users(path: Path, *records: object) -> Path:
    (path / "users.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    return path / "users.jsonl"


def test_good_lines(tmp_path: Path):
    found = read_user_interests(write_users(tmp_path, GOOD_USER, {**GOOD_USER, "user_id": "stranger"}), ["u", "v"])
    assert dict(found.interests.schema) == USER_INTEREST_SCHEMA
    assert found.interests.rows() == [("u", "m", "likes [31mred[0m hats", ["a", "b"])]
    assert dict(found.log.unknown) == {"stranger": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"items_seen": None}, "items_seen must be a list of item ids"),
        ({"items_seen": [1]}, "items_seen must be a list of item ids"),
        ({"user_id": ""}, "user_id must be text that is not blank"),
        ({"text": " "}, "text is blank"),
    ],
)
def test_bad_lines(tmp_path: Path, change: dict[str, object], reason: str):
    with pytest.raises(UserError, match=reason):
        read_user_interests(write_users(tmp_path, {**GOOD_USER, **change}), ["u"])


INTERESTS = to_frame(
    [
        Interest("A", "Gift-Ready", "text", None, "m"),
        Interest("A", "soft", "text", None, "m"),
        Interest("A", "soft", "visual", None, "n"),
        Interest("B", "for travel", "text", 0.9, "m", votes=2, miners=("m", "n"), wordings=("for travel", "Carry-on")),
    ]
)


@pytest.fixture
def write_labels(tmp_path: Path):
    def to_file(*rows: str, header: str = "item_id,interest,label") -> Path:
        path = tmp_path / "labels.csv"
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return path

    return to_file


def test_rows_are_found_by_folded_text_and_merged_wordings(write_labels):
    read = read_labels(write_labels("A,GIFT-ready ,1", 'A," soft",0', "B,carry-on,1"), INTERESTS)
    assert read.verdicts.tolist() == [1, 0, 0, 1]  # both kinds of "soft"
    assert (read.log.lines, read.log.bad_lines, read.log.duplicates, len(read.log.unknown)) == (3, 0, 0, 0)


def test_further_columns_and_any_order_are_fine(write_labels):
    path = write_labels("1,why not,A,soft", header="label,note,item_id,interest")
    assert read_labels(path, INTERESTS).verdicts.tolist() == [-1, 1, 1, -1]
    path.write_bytes(b"\xef\xbb\xbfitem_id,interest,label\r\nA,soft, 1\r\n")  # as spreadsheets write it
    assert read_labels(path, INTERESTS).verdicts.tolist() == [-1, 1, 1, -1]


def test_unknown_interests_and_repeated_rows_are_counted(write_labels):
    read = read_labels(write_labels("A,hard,1", "Z,soft,0", "Z,soft,0", "A,soft,1", "A,Soft,1"), INTERESTS)
    assert dict(read.log.unknown) == {"A: hard": 1, "Z: soft": 2}
    assert read.log.duplicates == 1 and read.verdicts.tolist() == [-1, 1, 1, -1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",soft,1", "item_id is blank"),
        ("A, ,1", "interest is blank"),
        ("A,soft", "label must be 0 or 1, it is 'None'"),
        ("A,soft,yes", "label must be 0 or 1, it is 'yes'"),
        ("A,soft,0.5", "label must be 0 or 1"),
        ("A,gift-ready,0", "contradicts an earlier row"),
    ],
)
def test_a_bad_row_is_left_out_counted_and_named(write_labels, row, reason):
    path = write_labels("A,gift-ready,1", row)
    read = read_labels(path, INTERESTS, max_bad_fraction=0.5)
    assert read.verdicts.tolist() == [1, -1, -1, -1]
    assert read.log.bad_lines == 1 and read.log.examples[0].startswith(f"{path}:3: ")
    assert reason in read.log.examples[0]
    with pytest.raises(UserError, match=r"1 of 2 lines are bad, more than the 1\.0% allowed"):
        read_labels(path, INTERESTS)


def test_hand_labels_one_percent_is_tolerated_and_not_more(write_labels):
    assert read_labels(write_labels(*["A,soft,1"] * 99, "A,soft,x"), INTERESTS).log.bad_lines == 1
    with pytest.raises(UserError, match="2 of 100"):
        read_labels(write_labels(*["A,soft,1"] * 98, "A,soft,x", "A,soft,x"), INTERESTS)


def test_files_that_cannot_be_read_end_in_one_line(tmp_path: Path, write_labels):
    with pytest.raises(UserError, match="lacks the column label"):
        read_labels(write_labels("A,soft", header="item_id,interest"), INTERESTS)
    with pytest.raises(UserError, match=r"none\.csv cannot be read"):
        read_labels(tmp_path / "none.csv", INTERESTS)
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match=r"binary\.csv cannot be read"):
        read_labels(tmp_path / "binary.csv", INTERESTS)
