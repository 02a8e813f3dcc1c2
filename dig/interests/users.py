"""Interests of users that somebody else's models wrote, with the items that the models saw."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dig.interests.reading import BadLineError, ReadingLog, clean_text, read_records

__all__ = ["MAX_USER_INTEREST", "USER_INTEREST_SCHEMA", "UserInterests", "read_user_interests"]

MAX_USER_INTEREST = 8000
"""A user's text is cut at this many characters."""
USER_INTEREST_SCHEMA = {
    "user_id": pl.String,
    "miner": pl.String,
    "text": pl.String,
    "items_seen": pl.List(pl.String),
}


@dataclass
class UserInterests:
    """A file of users' interests: ``interests`` (``USER_INTEREST_SCHEMA``, in the file's order), and its reading."""

    interests: pl.DataFrame
    log: ReadingLog


def read_user_interests(path: Path, user_ids: Collection[str], max_bad_fraction: float = 0.01) -> UserInterests:
    """Reads ``{"user_id", "miner", "text", "items_seen": [item_id, …]}``, a line a user and miner.

    A line that does not say which items it is made from is bad: nobody could check it for held-out items.

    Raises:
        UserError: if the file is missing or damaged, or more than ``max_bad_fraction`` of its lines are bad.
    """
    rows: list[tuple[str, str, str, list[str]]] = []

    def take(user_id: str, record: dict[str, Any], log: ReadingLog) -> None:
        seen = record.get("items_seen")
        if not isinstance(seen, list) or not all(isinstance(item, str) for item in seen):
            raise BadLineError("items_seen must be a list of item ids, so that held-out items can be looked for")
        miner = clean_text(record.get("miner"), "miner", MAX_USER_INTEREST, log)
        rows.append((user_id, miner, clean_text(record.get("text"), "text", MAX_USER_INTEREST, log), seen))

    log = read_records(path, user_ids, max_bad_fraction, take, key="user_id")
    return UserInterests(pl.DataFrame(rows, schema=USER_INTEREST_SCHEMA, orient="row"), log)
