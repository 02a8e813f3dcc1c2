"""Interests and captions that somebody else's models wrote, read from JSON lines as untrusted text."""

from __future__ import annotations

import gzip
import json
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from dig.config.errors import UserError
from dig.interests.interest import INTEREST_SCHEMA, KINDS, without_twins

__all__ = [
    "MAX_CAPTION",
    "MAX_INTEREST",
    "ImportedCaptions",
    "ImportedInterests",
    "ReadingLog",
    "read_captions",
    "read_interests",
]

MAX_INTEREST = 200
"""An interest is cut at this many characters."""
MAX_CAPTION = 4000
"""A caption is cut at this many characters."""
EXAMPLES = 5
"""How many bad lines and unknown items are kept word for word."""

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_JOINERS = "\u200c\u200d"  # format characters that words of Persian, Hindi and emoji need


class _BadLineError(ValueError):
    """Why a line cannot be read."""


@dataclass
class ReadingLog:
    """What reading a file met; nothing is dropped without a count here."""

    path: Path
    lines: int = 0
    """Lines that are not blank."""
    bad_lines: int = 0
    """Lines left out because they could not be read."""
    examples: list[str] = field(default_factory=list)
    """The first bad lines as ``file:line: reason``."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Items that the catalogue lacks, with the number of lines about each; those lines are left out."""
    twins: int = 0
    """Texts left out because an earlier one says the same."""
    cut: int = 0
    """Texts cut at the length limit."""
    empty: int = 0
    """Lines that name an item and give nothing for it."""

    def summary(self) -> str:
        """One line for the screen."""
        parts = [f"{self.path.name}: {self.lines:,} lines"]
        if self.bad_lines:
            parts.append(f"{self.bad_lines:,} bad (first: {self.examples[0]})")
        if self.unknown:
            names = [ascii(name) for name in list(self.unknown)[:EXAMPLES]] + ["…"] * (len(self.unknown) > EXAMPLES)
            parts.append(f"{len(self.unknown):,} items unknown to the catalogue ({', '.join(names)})")
        parts += [
            f"{count:,} {what}"
            for count, what in ((self.empty, "empty"), (self.twins, "repeated texts"), (self.cut, "texts cut"))
            if count
        ]
        return ", ".join(parts)


@dataclass
class ImportedInterests:
    """A file of interests: ``interests`` (``INTEREST_SCHEMA``, in the file's order) and what reading it met."""

    interests: pl.DataFrame
    log: ReadingLog


class ImportedCaptions(dict[str, str]):
    """Item id → caption, with what reading met in ``log``."""

    log: ReadingLog


def _clean(value: Any, name: str, limit: int, log: ReadingLog) -> str:
    """Untrusted text as one line of visible characters, at most ``limit`` long."""
    if not isinstance(value, str):
        raise _BadLineError(f"{name} must be text, it is {type(value).__name__}")
    if len(value) > limit * 4:  # bounds the work on a text of megabytes
        value = value[: limit * 4]
    visible = "".join(
        char if char in _JOINERS or unicodedata.category(char) not in _UNSEEN else " " if char.isspace() else ""
        for char in value
    )
    text = " ".join(visible.split())
    if not text.strip(_JOINERS + " "):
        raise _BadLineError(f"{name} is blank")
    if len(text) > limit:
        log.cut += 1
        text = text[:limit].rstrip()
    return text


def _item_id(record: dict[str, Any]) -> str:
    item_id = record.get("item_id")
    if not isinstance(item_id, str) or not item_id:
        raise _BadLineError(f"item_id must be text that is not blank, it is {json.dumps(item_id)[:50]}")
    return item_id


def _confidence(entry: dict[str, Any]) -> float | None:
    value = entry.get("confidence")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise _BadLineError(f"confidence must be a number from 0 to 1, it is {json.dumps(value)[:50]}")
    return float(value)


def _raw_lines(path: Path) -> Iterator[bytes]:
    """The lines of a plain or gzipped file, told apart by content."""
    if not path.is_file():
        raise UserError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            yield from gzip.GzipFile(fileobj=plain) if packed else plain
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read to its end: {error}") from error


def _parse(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _BadLineError(f"no UTF-8 ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise _BadLineError(f"no JSON ({error.msg} at column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise _BadLineError(f"no JSON ({error})") from error
    if not isinstance(record, dict):
        raise _BadLineError(f"must be a JSON object, it is {type(record).__name__}")
    return record


def _read(
    path: Path,
    item_ids: Collection[str],
    max_bad_fraction: float,
    take: Callable[[str, dict[str, Any], ReadingLog], None],
) -> ReadingLog:
    """Passes every good line about a known item to ``take``; an error that ``take`` raises counts as a bad line."""
    known = frozenset(item_ids)
    log = ReadingLog(path)
    for number, line in enumerate(_raw_lines(path), start=1):
        if not line.strip():
            continue
        log.lines += 1
        try:
            record = _parse(line)
            item_id = _item_id(record)
            if item_id in known:
                take(item_id, record, log)
            else:
                log.unknown[item_id] += 1
        except _BadLineError as error:
            log.bad_lines += 1
            if len(log.examples) < EXAMPLES:
                log.examples.append(f"{path}:{number}: {error}")
    if log.bad_lines > max_bad_fraction * log.lines:
        raise UserError(
            f"{log.examples[0]} — {log.bad_lines:,} of {log.lines:,} lines are bad, "
            f"more than the {max_bad_fraction:.1%} allowed"
        )
    return log


def read_interests(path: Path, item_ids: Collection[str], max_bad_fraction: float = 0.01) -> ImportedInterests:
    """Reads ``{"item_id", "miner", "kind", "interests": [{"text", "confidence"?}, …]}``, a line an item.

    A line with any fault is left out as a whole, counted, and kept as an example with file, line and reason. Texts lose
    control characters and are cut at :data:`MAX_INTEREST` characters; twins (equal once folded, within item, miner and
    kind) are dropped and counted; lines about items that the catalogue lacks are counted by item. An item may have
    several lines.

    Raises:
        UserError: if the file is missing or damaged, or more than ``max_bad_fraction`` of its lines are bad.
    """
    rows: list[tuple[str, str, str, float | None, str, None, None]] = []

    def take(item_id: str, record: dict[str, Any], log: ReadingLog) -> None:
        miner = _clean(record.get("miner"), "miner", MAX_INTEREST, log)
        kind = record.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            raise _BadLineError(f"kind must be one of {', '.join(KINDS)}, it is {json.dumps(kind)[:50]}")
        entries = record.get("interests")
        if not isinstance(entries, list):
            raise _BadLineError(f"interests must be a list, it is {type(entries).__name__}")
        cut_before = log.cut
        found: list[tuple[str, str, str, float | None, str, None, None]] = []
        try:
            for rank, entry in enumerate(entries, start=1):
                if not isinstance(entry, dict):
                    raise _BadLineError(f"interest {rank} must be an object, it is {type(entry).__name__}")
                text = _clean(entry.get("text"), f"text of interest {rank}", MAX_INTEREST, log)
                found.append((item_id, text, kind, _confidence(entry), miner, None, None))
        except _BadLineError:
            log.cut = cut_before
            raise
        log.empty += not found
        rows.extend(found)

    log = _read(path, item_ids, max_bad_fraction, take)
    read = pl.DataFrame(rows, schema=INTEREST_SCHEMA, orient="row")
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
            captions[item_id] = _clean(caption, "caption", MAX_CAPTION, log)

    captions.log = _read(path, item_ids, max_bad_fraction, take)
    return captions
