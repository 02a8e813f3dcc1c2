"""What became of a command that something was done to, and the tables that count it."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "ACCEPTED",
    "BAD",
    "BEFORE",
    "CRASHED",
    "DIFFERENT",
    "EQUAL",
    "HUNG",
    "LOST",
    "MESSY",
    "REFUSED",
    "SAID",
    "SIGNED",
    "STOPPED",
    "TRACEBACK",
    "Ending",
    "Figures",
    "Row",
    "error_lines",
    "stop_verdict",
    "verdict",
    "warnings_of",
]

REFUSED = "refused in one line"
EQUAL = "as undisturbed"
SAID = "different, and said so"
SIGNED = "as its files say"
STOPPED = "stopped as told"
BEFORE = "ended while Python itself starts"
DIFFERENT = "SILENTLY DIFFERENT"
TRACEBACK = "TRACEBACK"
HUNG = "HUNG"
CRASHED = "CRASHED"
MESSY = "NOT ONE LINE"
LOST = "LOST WORK"
ACCEPTED = "TAKEN AS RIGHT"
BAD = (DIFFERENT, TRACEBACK, HUNG, CRASHED, MESSY, LOST, ACCEPTED)
"""Verdicts that make a part fail."""

_CODES = (0, 1, 2, 75, 130)
_BEFORE = re.compile(r"\A\s*Fatal Python error: init_")  # Python reads its own site's files: no line of ours has run
_TRACE = re.compile(r"Traceback \(most recent call last\)|^Fatal Python error|Exception ignored in", re.MULTILINE)
_WHOLE = 20_000  # characters
_HINT = re.compile(r"^(\s|usage|python -m )")


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
        command: the module and its arguments.
        code: the exit code, negative for a signal; None where the time limit ended it.
        output: its standard output.
        errors: its standard error.
        seconds: from start to end.
        answer: what it answered, in a form that compares; None where there was none.
    """

    command: tuple[str, ...]
    code: int | None
    output: str
    errors: str
    seconds: float
    answer: Any = None

    @property
    def text(self) -> str:
        """All that it said."""
        return f"{self.output}\n{self.errors}"


def error_lines(ending: Ending) -> list[str]:
    """Lines that begin with ``error:``."""
    return [line for line in ending.text.splitlines() if line.startswith("error:")]


def warnings_of(ending: Ending) -> set[str]:
    """Lines that begin with ``warning:``."""
    return {line for line in ending.text.splitlines() if line.startswith("warning:")}


def verdict(ending: Ending, undisturbed: Ending | None = None) -> str:
    """What became of a command.

    Args:
        ending: how it ended.
        undisturbed: how the same command ends where nothing is wrong; None where it has no answer to compare.
    """
    if ending.code is None:
        return HUNG
    if _TRACE.search(ending.text):
        return TRACEBACK
    if ending.code not in _CODES:
        return CRASHED
    if ending.code:
        return REFUSED if _in_one_line(ending) else MESSY
    if undisturbed is None or ending.answer == undisturbed.answer:
        return EQUAL
    return SAID if warnings_of(ending) - warnings_of(undisturbed) else DIFFERENT


def stop_verdict(ending: Ending, codes: Sequence[int], seconds: float) -> str:
    """What became of a command that was told to stop.

    Args:
        ending: how it ended; its seconds count from the signal.
        codes: the exit codes that are right.
        seconds: the time that it may take.
    """
    if ending.code is None or ending.seconds > seconds:
        return HUNG
    if _BEFORE.search(ending.errors):
        return BEFORE
    if _TRACE.search(ending.text):
        return TRACEBACK
    return STOPPED if ending.code in codes else CRASHED


def _place_of(ending: Ending) -> str:
    """Where in the project a traceback ended."""
    places = re.findall(r'File "[^"]*?((?:dig|datamodules|callbacks)/[^"]+)", line (\d+)', ending.text)
    return f" ({places[-1][0]}:{places[-1][1]})" if places else ""


def _in_one_line(ending: Ending) -> bool:
    """One ``error:`` line, with at most hints on usage behind it."""
    if ending.code == 130:
        return True
    lines = [line for line in ending.errors.splitlines() if line.strip()]
    places = [place for place, line in enumerate(lines) if line.startswith("error:")]
    return len(places) == 1 and all(_HINT.match(line) for line in lines[places[0] + 1 :])


@dataclass
class Row:
    """One kind of fault: how often it was tried, and what happened.

    Attributes:
        done: what was done.
        verdicts: how often each verdict was given.
        codes: how often each exit code was seen.
        seconds: the longest that one took.
        lost: what was lost, in words.
    """

    done: str
    verdicts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    lost: str = "nothing"

    @property
    def times(self) -> int:
        """How often it was tried."""
        return sum(self.verdicts.values())

    def add(self, what: str, ending: Ending) -> None:
        """Counts a trial by its verdict."""
        self.verdicts[what] += 1
        self.codes["ended at the limit" if ending.code is None else str(ending.code)] += 1
        self.seconds = max(self.seconds, ending.seconds)


@dataclass
class Figures:
    """What one part measured.

    Attributes:
        part: its name.
        title: what it does, in a line.
        rows: its table.
        remarks: what else there is to say.
        bad: a line for every trial that went wrong.
        seconds: how long the part took.
        skipped: why it could not run here; empty where it did.
    """

    part: str
    title: str
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str = ""

    def row(self, done: str) -> Row:
        """The row of a kind of fault, made where there is none yet."""
        for each in self.rows:
            if each.done == done:
                return each
        self.rows.append(Row(done))
        return self.rows[-1]

    def count(self, done: str, what: str, ending: Ending, where: str = "") -> None:
        """Counts a trial, and keeps a line of it where it went wrong."""
        self.row(done).add(what, ending)
        if what in BAD:
            self.count_bad(what, f"{done} {where}", ending)

    def count_bad(self, what: str, told: str, ending: Ending) -> None:
        """Keeps a line of what went wrong, and prints all of it."""
        print(f"-- {told}\n{ending.text[-_WHOLE:]}\n--", file=sys.stderr)
        lines = (ending.errors if ending.errors.strip() else ending.output).splitlines()
        said = next((line for line in reversed(lines) if line.strip()), "(said nothing)")
        line = f"{what}: {told}: {' '.join(ending.command)[:200]}: exit {ending.code}, {said[:200]}{_place_of(ending)}"
        self.bad.append("".join(char if char.isprintable() else "?" for char in line))

    def to_dict(self) -> dict[str, Any]:
        """Plain containers."""
        rows = [{**vars(row), "verdicts": dict(row.verdicts), "codes": dict(row.codes)} for row in self.rows]
        return {**vars(self), "rows": rows}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Figures:
        """What :meth:`to_dict` made."""
        rows = [
            Row(**{**row, "verdicts": Counter(row["verdicts"]), "codes": Counter(row["codes"])})
            for row in content["rows"]
        ]
        return cls(**{**content, "rows": rows})
