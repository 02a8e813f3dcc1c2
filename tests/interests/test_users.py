"""Users' interests are read as untrusted text, with what they saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dig.config import UserError
from dig.interests import USER_INTEREST_SCHEMA, read_user_interests

GOOD = {"user_id": "u", "miner": "m", "text": "likes \x1b[31mred\x1b[0m hats", "items_seen": ["a", "b"]}


def write(path: Path, *records: object) -> Path:
    (path / "users.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    return path / "users.jsonl"


def test_good_lines(tmp_path: Path):
    found = read_user_interests(write(tmp_path, GOOD, {**GOOD, "user_id": "stranger"}), ["u", "v"])
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
        read_user_interests(write(tmp_path, {**GOOD, **change}), ["u"])
