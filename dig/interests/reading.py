"""JSON lines that somebody else's models wrote, read as untrusted text: nothing is dropped without a count."""

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

from dig.config.errors import UserError

__all__ = ["BadLineError", "ReadingLog", "clean_text", "read_records"]

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
    twins: int = 0
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
            for count, what in ((self.empty, "empty"), (self.twins, "repeated texts"), (self.cut, "texts cut"))
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
    known = frozenset(known_ids)
    log = ReadingLog(path)
    for number, line in enumerate(_raw_lines(path), start=1):
        if not line.strip():
            continue
        log.lines += 1
        try:
            record = _parse(line)
            name = _key(record, key)
            if name in known:
                take(name, record, log)
            else:
                log.unknown[name] += 1
        except BadLineError as error:
            log.bad(number, error)
    log.refuse_above(max_bad_fraction)
    return log
