"""Which lines of a delimited file are its rows: counted from the bytes, and read one by one where quotes are odd.

A quote mark opens a field that closes before a separator or a line's end (RFC 4180). Where every quote mark does, rows
are counted without parsing, and any parser reads the same. Where one does not, rows are read one by one, and no row
swallows its neighbours: the quote is escaped by a backslash, or a character of its own, or its row is a bad one.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.sources.streams import count_bytes

__all__ = ["Layout", "Record", "form_of", "layout_of", "physical_lines", "records"]

_QUOTE, _NEWLINE, _RETURN = ord('"'), ord("\n"), ord("\r")
_DIGITS, _LETTERS = re.compile(r"\d+"), re.compile(r"[^\W\d_]+")
_ONE, _TOP = np.uint64(1), np.uint64(63)
_CHUNK = 1 << 18  # bytes looked at at once, which stay in the cache

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a long description is a field as any other


@dataclass(frozen=True)
class Layout:
    """The rows of a well-formed file.

    Attributes:
        rows: records, the header among them.
        lines: (rows,) the line that each begins at; None where each is one line.
        separators: counts those outside quotes.
    """

    rows: int
    lines: np.ndarray | None
    separators: Callable[[], int]


@dataclass(frozen=True)
class Record:
    """What stands at a line: a row's fields, or why it is a bad one.

    Attributes:
        line: the line it begins at.
        lines: how many it takes.
        fields: None of a bad row; empty of an empty line.
        reason: of a bad row.
        literal: whether a quote mark that closes nothing was taken as a character.
    """

    line: int
    lines: int
    fields: list[str] | None
    reason: str = ""
    literal: bool = False


def physical_lines(content: bytes) -> int:
    """Lines of a text, the last one with or without its end; a bare carriage return ends a line, too."""
    bare = content.count(b"\r") - content.count(b"\r\n")
    return content.count(b"\n") + bare + (not content.endswith((b"\n", b"\r")) and bool(content))


def layout_of(content: bytes, separator: str, fields: int) -> Layout | None:
    """Counts rows from the bytes alone.

    Args:
        content: the file, header included.
        separator: between fields.
        fields: number of the header's.

    Returns:
        None where only a closer look tells what is a row: a quote mark that does not open or close a field, a bare
        carriage return, a null byte, or quoted line breaks between which every line is a whole row by itself.
    """
    if b"\0" in content or (b"\r" in content and content.count(b"\r") != content.count(b"\r\n")):
        return None
    data = np.frombuffer(content, np.uint8)
    if b'"' not in content:
        rows = count_bytes(data, _NEWLINE) + (not content.endswith(b"\n"))
        return Layout(rows, None, lambda: count_bytes(data, ord(separator)))
    scanned = _scan(data, ord(separator), b"\r" in content)
    if scanned is None:
        return None
    rows, breaks, separators = scanned
    rows += not content.endswith(b"\n")
    starts = _record_starts(data, separator, fields) if breaks else None
    return None if breaks and starts is None else Layout(rows, starts, lambda: separators)


def _scan(data: np.ndarray, separator: int, returns: bool = True) -> tuple[int, int, int] | None:
    """Line ends outside quotes, inside, and separators outside; None if a quote mark neither opens nor closes a field.

    Quotes in turn open and close: one that opens follows a separator, a line's end or another quote (a doubled one),
    one that closes stands before such. Sixty-four bytes are looked at at once; ``returns`` says whether
    there is a carriage return.
    """
    rows, breaks, separators = 0, 0, 0
    opened, follows = False, True  # whether a quote is open, and whether a separator or the like stands before
    for at in range(0, len(data), _CHUNK):
        part = data[at : at + _CHUNK]
        quotes, ends, marks = _bits(part == _QUOTE), _bits(part == _NEWLINE), _bits(part == separator)
        inside = _inside(quotes, opened)
        edges = quotes | ends | marks
        before = edges << _ONE
        before[1:] |= edges[:-1] >> _TOP
        before[0] |= np.uint64(follows)
        follows = _last(edges, len(part))
        if returns:
            edges |= _bits(part == _RETURN)
        after = edges >> _ONE
        after[:-1] |= edges[1:] << _TOP
        end = at + len(part)
        if end == len(data) or data[end] in (_QUOTE, _NEWLINE, _RETURN, separator):
            after[-1] |= _ONE << np.uint64((len(part) - 1) % 64)
        if (quotes & ((inside & ~before) | ~(inside | after))).any():
            return None
        opened = _last(inside, len(part))
        rows += int(np.bitwise_count(ends & ~inside).sum())
        breaks += int(np.bitwise_count(ends & inside).sum())
        separators += int(np.bitwise_count(marks & ~inside).sum())
    return None if opened else (rows, breaks, separators)


def _bits(flags: np.ndarray) -> np.ndarray:
    """(bytes / 64,) uint64: a bit a flag, the first one lowest."""
    packed = np.packbits(flags, bitorder="little")
    if len(packed) % 8:
        packed = np.pad(packed, (0, -len(packed) % 8))
    return packed.view("<u8")


def _last(bits: np.ndarray, size: int) -> bool:
    """The last of ``size`` bits."""
    return bool(bits[-1] >> np.uint64((size - 1) % 64) & _ONE)


def _inside(quotes: np.ndarray, opened: bool) -> np.ndarray:
    """Bits that say whether a quote is open behind each byte; those of a word are toggled at once, by shifts."""
    words = quotes.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        words ^= words << np.uint64(shift)
    odd = np.append(opened, (words >> _TOP).astype(bool)[:-1])
    words[np.logical_xor.accumulate(odd)] ^= np.uint64(2**64 - 1)
    return words


def _record_starts(data: np.ndarray, separator: str, fields: int) -> np.ndarray | None:
    """(records,) the line that each begins at; None if the lines of one are whole rows by themselves."""
    quotes, ends = np.flatnonzero(data == _QUOTE), np.flatnonzero(data == _NEWLINE)
    if not len(ends) or ends[-1] != len(data) - 1:
        ends = np.append(ends, len(data))
    outside = np.searchsorted(quotes, ends) % 2 == 0
    starts = np.append(0, np.flatnonzero(outside)[:-1] + 1)
    marks = np.searchsorted(np.flatnonzero(data == ord(separator)), ends)
    whole = np.diff(np.append(0, marks)) == fields - 1
    several = np.diff(np.append(starts, len(ends))) > 1
    if (np.logical_and.reduceat(whole, starts) & several).any():
        return None
    return starts + 1


class _Lines:
    """Lines one by one; those of the record at hand can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._returned: deque[str] = deque()
        self.taken: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._lines)
        self.taken.append(line)
        return line

    def give_back(self, kept: int) -> None:
        """Keeps the first few of the lines taken."""
        self._returned.extendleft(reversed(self.taken[kept:]))
        del self.taken[kept:]


def records(
    lines: Iterator[str],
    separator: str,
    fields: int,
    needed: Sequence[int],
    is_row: Callable[[list[str]], bool] | None,
    id_place: int | None = None,
) -> Iterator[Record]:
    """Every line as a row, part of a row, or a bad row.

    Args:
        lines: with their ends, the header among them.
        separator: between fields.
        fields: number of the header's.
        needed: places of the fields that are read; elsewhere a quote mark that closes nothing is a character.
        is_row: whether the fields of a line are plausible as a row; unset says nothing about comma-separated ones.
        id_place: place of the id; where ``is_row`` is unset, comma-separated lines are rows if their ids look alike.
    """
    taking = _Lines(lines)
    reader = csv.reader(taking, delimiter=separator, strict=True)
    escaped = csv.reader(taking, delimiter=separator, strict=True, escapechar="\\")
    line = 1
    while True:
        taking.taken.clear()
        row = _next(reader)
        if not taking.taken:
            return
        if row is not None and len(row) == fields and len(taking.taken) == 1:
            record = Record(line, 1, row)
        elif row is not None and not row:
            record = Record(line, len(taking.taken), [])
        else:
            record = _closer_look(line, row, taking, escaped, separator, fields, needed, is_row, id_place)
        yield record
        line += record.lines


def _next(reader: Iterator[list[str]]) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error:
        return None


def _closer_look(
    line: int,
    row: list[str] | None,
    taking: _Lines,
    escaped: Iterator[list[str]],
    separator: str,
    fields: int,
    needed: Sequence[int],
    is_row: Callable[[list[str]], bool] | None,
    id_place: int | None,
) -> Record:
    """A record that is not a row of one line by RFC 4180."""
    if (
        row is not None
        and len(row) == fields
        and not _lines_are_rows(taking.taken, separator, fields, is_row, id_place)
    ):
        return Record(line, len(taking.taken), row)
    if row is not None and len(taking.taken) == 1 and '\\"' not in taking.taken[0]:
        return Record(line, 1, None, f"{len(row)} fields instead of {fields}{_last_is_empty(row, fields)}")
    if '\\"' in taking.taken[0]:
        taking.give_back(0)
        row = _next(escaped)
        if (
            row is not None
            and len(row) == fields
            and not _lines_are_rows(taking.taken, separator, fields, is_row, id_place)
        ):
            return Record(line, len(taking.taken), row)
    taking.give_back(1)
    row = [_unquoted(field) for field in taking.taken[0].rstrip("\r\n").split(separator)]
    opened = [place for place, field in enumerate(row) if field.startswith('"')]
    if len(row) == fields and (separator == "\t" or not set(opened) & set(needed)):
        return Record(line, 1, row, literal=True)
    if len(row) != fields:
        return Record(line, 1, None, f"{len(row)} fields instead of {fields}, or a quote mark that is never closed")
    return Record(
        line,
        1,
        None,
        f"a quote mark opens field {opened[0] + 1} and does not close it before the next "
        "separator; inside quotes it is doubled",
    )


def _unquoted(field: str) -> str:
    """A field without its quotes, if they are well-formed."""
    inside = field[1:-1].replace('""', "")
    closed = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inside
    return field[1:-1].replace('""', '"') if closed else field


def _lines_are_rows(
    lines: Sequence[str], separator: str, fields: int, is_row: Callable[[list[str]], bool] | None, id_place: int | None
) -> bool:
    """Whether each line of a record is a row by itself, so that quotes in two of them met by chance."""
    if len(lines) == 1:
        return False
    rows = [line.rstrip("\r\n").split(separator) for line in lines]
    if not all(len(row) == fields for row in rows):
        return False
    if is_row is not None or separator == "\t":
        return is_row is None or all(map(is_row, rows))
    return id_place is not None and len({form_of(row[id_place]) for row in rows}) == 1


def form_of(text: str) -> str:
    """What a text looks like: ``9`` for digits, ``a`` for letters, other signs as they are; ``B0012`` is ``a9``."""
    return _LETTERS.sub("a", _DIGITS.sub("9", text.strip('" ')))


def _last_is_empty(row: Sequence[str], fields: int) -> str:
    return "; the last one is empty: a separator ends the line" if len(row) == fields + 1 and not row[-1] else ""
