"""Interests and captions that somebody else's models wrote, read from JSON lines."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dig.interests.interest import KINDS, MinedRow, mined_frame, without_twins
from dig.interests.reading import BadLineError, ReadingLog, clean_text, read_records

__all__ = ["MAX_CAPTION", "MAX_INTEREST", "ImportedCaptions", "ImportedInterests", "read_captions", "read_interests"]

MAX_INTEREST = 200
"""An interest is cut at this many characters."""
MAX_CAPTION = 4000
"""A caption is cut at this many characters."""


@dataclass
class ImportedInterests:
    """A file of interests: ``interests`` (``INTEREST_SCHEMA``, in the file's order) and what reading it met."""

    interests: pl.DataFrame
    log: ReadingLog


class ImportedCaptions(dict[str, str]):
    """Item id → caption, with what reading met in ``log``."""

    log: ReadingLog


def _confidence(entry: dict[str, Any]) -> float | None:
    value = entry.get("confidence")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise BadLineError(f"confidence must be a number from 0 to 1, it is {json.dumps(value)[:50]}")
    return float(value)


def read_interests(path: Path, item_ids: Collection[str], max_bad_fraction: float = 0.01) -> ImportedInterests:
    """Reads ``{"item_id", "miner", "kind", "interests": [{"text", "confidence"?}, …]}``, a line an item.

    A line with any fault is left out as a whole, counted, and kept as an example with file, line and reason. Texts lose
    control characters and are cut at :data:`MAX_INTEREST` characters; twins (equal once folded, within item, miner and
    kind) are dropped and counted; lines about items that the catalogue lacks are counted by item. An item may have
    several lines.

    Raises:
        UserError: if the file is missing or damaged, or more than ``max_bad_fraction`` of its lines are bad.
    """
    rows: list[MinedRow] = []

    def take(item_id: str, record: dict[str, Any], log: ReadingLog) -> None:
        miner = clean_text(record.get("miner"), "miner", MAX_INTEREST, log)
        kind = record.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            raise BadLineError(f"kind must be one of {', '.join(KINDS)}, it is {json.dumps(kind)[:50]}")
        entries = record.get("interests")
        if not isinstance(entries, list):
            raise BadLineError(f"interests must be a list, it is {type(entries).__name__}")
        cut_before = log.cut
        found: list[MinedRow] = []
        try:
            for rank, entry in enumerate(entries, start=1):
                if not isinstance(entry, dict):
                    raise BadLineError(f"interest {rank} must be an object, it is {type(entry).__name__}")
                text = clean_text(entry.get("text"), f"text of interest {rank}", MAX_INTEREST, log)
                found.append((item_id, text, kind, _confidence(entry), miner))
        except BadLineError:
            log.cut = cut_before
            raise
        log.empty += not found
        rows.extend(found)

    log = read_records(path, item_ids, max_bad_fraction, take)
    read = mined_frame(rows)
    frame = without_twins(read)
    log.twins = read.height - frame.height
    return ImportedInterests(frame, log)


def read_captions(path: Path, item_ids: Collection[str], max_bad_fraction: float = 0.01) -> ImportedCaptions:
    """Reads ``{"item_id", "miner", "caption"}``, a line an item; the first caption of an item counts.

    Raises:
        UserError: as :func:`read_interests` does.
    """
    captions = ImportedCaptions()

    def take(item_id: str, record: dict[str, Any], log: ReadingLog) -> None:
        caption = record.get("caption")
        if caption == "":
            log.empty += 1
        elif item_id in captions:
            log.twins += 1
        else:
            captions[item_id] = clean_text(caption, "caption", MAX_CAPTION, log)

    captions.log = read_records(path, item_ids, max_bad_fraction, take)
    return captions
