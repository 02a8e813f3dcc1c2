"""What the user sees: lines, tables and progress bars, on one shared console.

What ``dig`` says while it works are records of Python's ``logging``, of the loggers ``dig.…`` (those of ``datamodules``
and ``callbacks`` are ``dig.datamodules.…`` and ``dig.callbacks.…``): lines and tables of level INFO, warnings of level
WARNING. The command line prints them on the console; a program that imports ``dig`` directs or silences them.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console, ConsoleRenderable
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from dig.engine.secrets import hidden

__all__ = [
    "byte_progress",
    "console",
    "enable_progress",
    "lines_to_console",
    "lines_wanted",
    "messages_to_stderr",
    "printable",
    "progress_enabled",
    "say",
    "show",
    "shown_rate",
    "shown_seconds",
    "silenced",
    "spreadsheet_cell",
    "track",
    "visible",
    "warn",
]

T = TypeVar("T")
_UNSEEN = {
    code: None
    for first, last in (
        (0x00, 0x08),
        (0x0B, 0x1F),
        (0x7F, 0x9F),  # controls of terminals, but for tabs and ends of lines
        (0x061C, 0x061C),
        (0x200E, 0x200F),
        (0x202A, 0x202E),
        (0x2066, 0x2069),  # controls of direction
        (0xFEFF, 0xFEFF),
        (0xFFF9, 0xFFFB),
        (0xE0000, 0xE007F),  # marks and tags that nobody sees
    )
    for code in range(first, last + 1)
} | {0x0D: " "}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_PAPER = 120
"""Columns of a table that is logged as text."""
console = Console(highlight=False, soft_wrap=True)
_state = {"progress": True}


def enable_progress(enabled: bool) -> None:
    """Switches the bars on or off (``logging.progress``)."""
    _state["progress"] = enabled


def progress_enabled() -> bool:
    """Whether bars are wanted and there is a terminal to draw them on."""
    return _state["progress"] and console.is_terminal


def lines_wanted() -> bool:
    """Whether progress is wanted and there is no terminal to draw a bar on, so that lines tell it."""
    return _state["progress"] and not console.is_terminal


def shown_rate(value: float) -> str:
    """A number of anything per second with two digits that say something: 0.15, 3.2, 48, 1,234."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"


def shown_seconds(seconds: float) -> str:
    """A time as people say it: 48 s, 12 min, 3.2 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{shown_rate(seconds / 3600)} h"


def say(message: str) -> None:
    """Logs a line without what looks like a secret, and without what a terminal would obey."""
    _log(logging.INFO, message)


def warn(message: str) -> None:
    """Logs a line that asks for attention, as :func:`say` does."""
    _log(logging.WARNING, message)


def show(table: ConsoleRenderable) -> None:
    """Logs a table; the console draws it, other handlers get it as text."""
    _log(logging.INFO, _Drawn(table))


class _Drawn:
    """A table as the message of a record."""

    def __init__(self, table: ConsoleRenderable) -> None:
        self.table = table

    def __str__(self) -> str:
        paper = Console(file=io.StringIO(), width=_PAPER, color_system=None)
        with paper.capture() as drawn:
            paper.print(self.table)
        return drawn.get().rstrip("\n")


def _log(level: int, message: str | _Drawn) -> None:
    """Logs for the module that calls :func:`say`, :func:`warn` or :func:`show`."""
    name = str(sys._getframe(2).f_globals.get("__name__", "dig"))
    logger = logging.getLogger(name if name.partition(".")[0] == "dig" else f"dig.{name}")
    if logger.isEnabledFor(level):
        logger.log(level, visible(hidden(message)) if isinstance(message, str) else message, stacklevel=3)


class _Lines(RichHandler):
    """Prints records as lines, warnings with that word before them; a text is printed as it is, without markup."""

    def __init__(self) -> None:
        super().__init__(console=console)

    def render_message(self, record: logging.LogRecord, message: str) -> ConsoleRenderable:
        """What is printed of a record."""
        if isinstance(record.msg, _Drawn):
            return record.msg.table
        if record.levelno < logging.WARNING:
            return Text(message)
        return Text.assemble((f"{'warning' if record.levelno < logging.ERROR else 'error'}:", "yellow"), " ", message)

    def render(self, *, message_renderable: ConsoleRenderable, **_: object) -> ConsoleRenderable:
        """The message without a column for time, level and place."""
        return message_renderable

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A full disk or a closed pipe ends a command, as it does for what is printed."""
        if sys.exc_info()[0] is not None:
            raise


@contextmanager
def lines_to_console() -> Generator[None]:
    """What is logged here is printed on the console, as the command line does.

    Where a program has given the logger ``dig`` a handler of its own, that one gets the lines.
    """
    logger = logging.getLogger("dig")
    if logger.handlers:
        yield
        return
    handler, before = _Lines(), (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # what a library does to the root logger prints nothing twice
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before[1]
        logger.setLevel(before[0])


@contextmanager
def silenced() -> Generator[None]:
    """Nothing is said here, and no bar is drawn."""
    logger = logging.getLogger("dig")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with console.capture():
            yield
    finally:
        logger.setLevel(before)


@contextmanager
def messages_to_stderr() -> Generator[None]:
    """Lines, warnings and bars go to the standard error, where the standard output is for a program to read."""
    before, console.stderr = console.stderr, True
    try:
        yield
    finally:
        console.stderr = before


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Generator[T]:
    """Passes the elements on under a progress bar with count, elapsed and remaining time."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not progress_enabled()) as progress:
        yield from progress.track(iterable, total=total, description=escape(description))


def visible(text: str) -> str:
    """Text from outside without what a terminal or a page obeys instead of showing it: control characters, and marks
    that turn the direction in which a line is read. Tabs and ends of lines stay."""
    return text.translate(_UNSEEN)


def spreadsheet_cell(value: T) -> T | str:
    """A value for a table that people open in a spreadsheet: text that one would take for a formula gets an apostrophe
    before it, which spreadsheets do not show. Not for ids and texts that dig reads back."""
    if not isinstance(value, str):
        return value
    return f"'{text}" if (text := visible(value)).startswith(_FORMULA) else text


def printable(text: str, limit: int) -> str:
    """Text from outside as one line without control characters, cut at ``limit``; nothing in it moves the cursor."""
    cleaned = "".join(" " if char.isspace() else char for char in text if char.isspace() or char.isprintable())
    line = " ".join(cleaned.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


@contextmanager
def byte_progress(description: str, total: int | None, done: int = 0) -> Generator[Callable[[int], None]]:
    """A progress bar in bytes, with speed and time left; gives the function that advances it.

    Args:
        description: what is under way.
        total: bytes, None if unknown.
        done: bytes that were there before.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not progress_enabled()) as progress:
        task = progress.add_task(escape(description), total=total, completed=done)
        yield lambda size: progress.advance(task, size)
