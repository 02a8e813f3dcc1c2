"""Semantic IDs from a file: what is read, and the line that each wrong file ends in."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dig.config import UserError
from dig.quantization.semantic_ids import read_codes

TABLE = {"a": [1, 2, 3], "b": [4, 5, 6, 0], "other": [7, 8, 9]}


def written(folder: Path, content: Any, name: str = "ids.json") -> Path:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return folder / name


@pytest.mark.parametrize("name", ["ids.json", "ids.json.gz"])
def test_codes_come_in_the_catalogues_order(tmp_path: Path, name: str):
    assert read_codes(written(tmp_path, TABLE, name), None, ["b", "a"], 3).tolist() == [[4, 5, 6], [1, 2, 3]]
    several = written(tmp_path, {"x": TABLE, "y": {"a": [9], "b": [8]}}, name)
    assert read_codes(several, "y", ["a", "b"], 1).tolist() == [[9], [8]]


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"{", None, "no readable JSON"),
        ([1], None, "must hold an object"),
        ({}, None, "must hold an object"),
        ({"x": TABLE}, None, "names no table of it; there are x"),
        ({"letter": TABLE}, "leter", "did you mean letter?"),
        ({"a": [1, 2, 3]}, None, "no Semantic ID for 1 of 2 items, 'b' first"),
        (TABLE | {"b": [1, 2]}, None, "item 'b' needs 3 codes"),
        (TABLE | {"b": [1, 2, -1]}, None, "item 'b' needs 3 codes"),
        (TABLE | {"b": [1, True, 2]}, None, "item 'b' needs 3 codes"),
        (TABLE | {"b": "123"}, None, "item 'b' needs 3 codes"),
    ],
)
def test_a_wrong_file_ends_in_a_line(tmp_path: Path, content: Any, name: str | None, words: str):
    path = written(tmp_path, content)
    with pytest.raises(UserError) as caught:
        read_codes(path, name, ["a", "b"], 3)
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_or_damaged_file_ends_in_a_line(tmp_path: Path):
    damaged = tmp_path / "damaged.json.gz"
    damaged.write_bytes(gzip.compress(json.dumps(TABLE).encode())[:20])
    for path in (tmp_path / "nowhere.json", damaged):
        with pytest.raises(UserError, match="no readable JSON"):
            read_codes(path, None, ["a"], 3)
