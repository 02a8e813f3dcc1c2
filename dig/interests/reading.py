"""Files that somebody else's models or a person wrote, read as untrusted text: nothing is dropped without a count."""

from __future__ import annotations

import csv
import gzip
import json
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dig.config.errors import UserError
from dig.engine.folding import fold
from dig.interests.interest import KINDS, MinedRow, fold_column, mined_frame, without_duplicates

__all__ = [
    "BadLineError",
    "ReadingLog",
    "clean_text",
    "read_records",
    "MAX_CAPTION",
    "MAX_INTEREST",
    "ImportedCaptions",
    "ImportedInterests",
    "read_captions",
    "read_interests",
    "MAX_USER_INTEREST",
    "USER_INTEREST_SCHEMA",
    "UserInterests",
    "read_user_interests",
    "COLUMNS",
    "HandLabels",
    "read_labels",
]


EXAMPLES = 5
"""How many bad lines and unknown items are kept word for word."""

_LONGEST = 1 << 28
"""Bytes of a line at most."""
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_JOINERS = "\u200c\u200d"  # format characters that words of Persian, Hindi and emoji need


class BadLineError(ValueError):
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
    """Ids that the data lack, with the number of lines about each; those lines are left out."""
    duplicates: int = 0
    """Texts left out because an earlier one says the same."""
    cut: int = 0
    """Texts cut at the length limit."""
    empty: int = 0
    """Lines that name an id and give nothing for it."""

    def bad(self, number: int, reason: object) -> None:
        """Counts a line that is left out, and keeps it as an example while there are few."""
        self.bad_lines += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{self.path}:{number}: {reason}")

    def refuse_above(self, max_bad_fraction: float) -> None:
        """Ends the reading where too many lines are bad.

        Raises:
            UserError: more than this share of the lines is bad.
        """
        if self.bad_lines > max_bad_fraction * self.lines:
            raise UserError(
                f"{self.examples[0]} — {self.bad_lines:,} of {self.lines:,} lines are bad, "
                f"more than the {max_bad_fraction:.1%} allowed"
            )

    def summary(self) -> str:
        """One line for the screen."""
        parts = [f"{self.path.name}: {self.lines:,} lines"]
        if self.bad_lines:
            parts.append(f"{self.bad_lines:,} bad (first: {self.examples[0]})")
        if self.unknown:
            names = [ascii(name) for name in list(self.unknown)[:EXAMPLES]] + ["…"] * (len(self.unknown) > EXAMPLES)
            parts.append(f"{len(self.unknown):,} ids unknown to the data ({', '.join(names)})")
        parts += [
            f"{count:,} {what}"
            for count, what in ((self.empty, "empty"), (self.duplicates, "repeated texts"), (self.cut, "texts cut"))
            if count
        ]
        return ", ".join(parts)


def clean_text(value: Any, name: str, limit: int, log: ReadingLog) -> str:
    """Untrusted text as one line of visible characters, at most ``limit`` long."""
    if not isinstance(value, str):
        raise BadLineError(f"{name} must be text, it is {type(value).__name__}")
    if len(value) > limit * 4:  # bounds the work on a text of megabytes
        value = value[: limit * 4]
    visible = "".join(
        char if char in _JOINERS or unicodedata.category(char) not in _UNSEEN else " " if char.isspace() else ""
        for char in value
    )
    text = " ".join(visible.split())
    if not text.strip(_JOINERS + " "):
        raise BadLineError(f"{name} is blank")
    if len(text) > limit:
        log.cut += 1
        text = text[:limit].rstrip()
    return text


def _key(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value:
        raise BadLineError(f"{name} must be text that is not blank, it is {json.dumps(value)[:50]}")
    return value


def _raw_lines(path: Path) -> Iterator[bytes]:
    """The lines of a plain or gzipped file, told apart by content."""
    if not path.is_file():
        raise UserError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            stream = gzip.GzipFile(fileobj=plain) if packed else plain
            for line in iter(lambda: stream.readline(_LONGEST), b""):
                if len(line) == _LONGEST:
                    raise UserError(f"{path}: a line has more than {_LONGEST >> 20} MB; it is not a file of lines")
                yield line
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read to its end: {error}") from error


def _parse(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadLineError(f"no UTF-8 ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise BadLineError(f"no JSON ({error.msg} at column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise BadLineError(f"no JSON ({error})") from error
    if not isinstance(record, dict):
        raise BadLineError(f"must be a JSON object, it is {type(record).__name__}")
    return record


def read_records(
    path: Path,
    known_ids: Collection[str],
    max_bad_fraction: float,
    take: Callable[[str, dict[str, Any], ReadingLog], None],
    key: str = "item_id",
) -> ReadingLog:
    """Passes every good line about a known id to ``take``; an error that ``take`` raises counts as a bad line.

    Args:
        path: plain or gzipped JSON lines.
        known_ids: lines about others are left out and counted.
        max_bad_fraction: share of bad lines above which the file is refused.
        take: gets the id, the record and the log.
        key: the field that holds the id.

    Raises:
        UserError: if the file is missing or damaged, or too many of its lines are bad.
    """
    ids = frozenset(known_ids)
    log = ReadingLog(path)
    for number, line in enumerate(_raw_lines(path), start=1):
        if not line.strip():
            continue
        log.lines += 1
        try:
            record = _parse(line)
            name = _key(record, key)
            if name in ids:
                take(name, record, log)
            else:
                log.unknown[name] += 1
        except BadLineError as error:
            log.bad(number, error)
    log.refuse_above(max_bad_fraction)
    return log


# Interests and captions that somebody else's models wrote, read from JSON lines.


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
    """Reads ``{"item_id", "miner", "kind", "interests": [{"text", "confidence"?}, …]}``, a line per item.

    A line with any fault is left out as a whole, counted, and kept as an example with file, line and reason. Texts lose
    control characters and are cut at :data:`MAX_INTEREST` characters; duplicates (equal once folded, within item, miner
    and kind) are dropped and counted; lines about items that the catalogue lacks are counted by item. An item may have
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
        mined: list[MinedRow] = []
        try:
            for rank, entry in enumerate(entries, start=1):
                if not isinstance(entry, dict):
                    raise BadLineError(f"interest {rank} must be an object, it is {type(entry).__name__}")
                text = clean_text(entry.get("text"), f"text of interest {rank}", MAX_INTEREST, log)
                mined.append((item_id, text, kind, _confidence(entry), miner))
        except BadLineError:
            log.cut = cut_before
            raise
        log.empty += not mined
        rows.extend(mined)

    log = read_records(path, item_ids, max_bad_fraction, take)
    read = mined_frame(rows)
    frame = without_duplicates(read)
    log.duplicates = read.height - frame.height
    return ImportedInterests(frame, log)


def read_captions(path: Path, item_ids: Collection[str], max_bad_fraction: float = 0.01) -> ImportedCaptions:
    """Reads ``{"item_id", "miner", "caption"}``, a line per item; the first caption of an item counts.

    Raises:
        UserError: as :func:`read_interests` does.
    """
    captions = ImportedCaptions()

    def take(item_id: str, record: dict[str, Any], log: ReadingLog) -> None:
        caption = record.get("caption")
        if caption == "":
            log.empty += 1
        elif item_id in captions:
            log.duplicates += 1
        else:
            captions[item_id] = clean_text(caption, "caption", MAX_CAPTION, log)

    captions.log = read_records(path, item_ids, max_bad_fraction, take)
    return captions


# Interests of users that somebody else's models wrote, with the items that the models saw.


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
    """Reads ``{"user_id", "miner", "text", "items_seen": [item_id, …]}``, a line per user and miner.

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


# Labels of interests that a person made: a CSV file, read as untrusted text.


COLUMNS = ("item_id", "interest", "label")
"""Columns of the file; it may have more."""


@dataclass
class HandLabels:
    """A file of labels: ``verdicts`` (interests,) int8 1, 0 or -1 (not labelled), and what reading it met."""

    verdicts: np.ndarray
    log: ReadingLog


def read_labels(path: Path, interests: pl.DataFrame, max_bad_fraction: float = 0.01) -> HandLabels:
    """Reads ``item_id,interest,label``, a row an interest of an item; the label is 1 or 0.

    An interest is found by its text or one of the wordings that were merged into it, folded; every miner's counts. A
    row with any fault, or against an earlier one, is left out, counted, and kept as an example with file, line and
    reason; rows about interests that are not there are counted in ``log.unknown``.

    Raises:
        UserError: if the file is missing, is not UTF-8 text or lacks a column, or more than ``max_bad_fraction`` of its
            rows are bad.
    """
    rows_of = _rows_of(interests)
    verdicts = np.full(interests.height, -1, dtype=np.int8)
    log = ReadingLog(path)
    for number, row in _rows(path):
        log.lines += 1
        try:
            item_id, phrase, label = _fields(row)
            places = rows_of.get((item_id, phrase))
            if places is None:
                log.unknown[f"{item_id}: {phrase}"] += 1
            elif (verdicts[places] == 1 - label).any():
                raise BadLineError(f"label {label} of {phrase!r} of {item_id!r} contradicts an earlier row")
            else:
                log.duplicates += int((verdicts[places] == label).all())
                verdicts[places] = label
        except BadLineError as error:
            log.bad(number, error)
    log.refuse_above(max_bad_fraction)
    return HandLabels(verdicts, log)


def _rows_of(interests: pl.DataFrame) -> dict[tuple[str, str], list[int]]:
    """Rows of the interests by item and folded text, also by folded wordings that are not an interest's text."""
    own: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, key in enumerate(zip(interests["item_id"], fold_column(interests["text"]), strict=True)):
        own[key].append(place)
    merged: dict[tuple[str, str], list[int]] = defaultdict(list)
    wordings = interests.select("item_id", "wordings").with_row_index("place").explode("wordings").drop_nulls()
    for place, item_id, folded in zip(
        wordings["place"], wordings["item_id"], fold_column(wordings["wordings"]), strict=True
    ):
        if (item_id, folded) not in own:
            merged[item_id, folded].append(place)
    return dict(merged) | dict(own)


def _rows(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    """Rows of the file with their line numbers, blank ones left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = set(COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise UserError(f"{path} lacks the column {min(missing)}; its header must name {', '.join(COLUMNS)}")
            return [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _fields(row: dict[str, str | None]) -> tuple[str, str, int]:
    item_id, text, label = (row.get(name) for name in COLUMNS)
    if not item_id:
        raise BadLineError("item_id is blank")
    if not text or not fold(text):
        raise BadLineError("interest is blank")
    if label is None or label.strip() not in ("0", "1"):
        raise BadLineError(f"label must be 0 or 1, it is {str(label)[:50]!r}")
    return item_id, fold(text), int(label)
