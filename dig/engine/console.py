"""What the user sees: lines, tables and progress bars, on one shared console."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
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

from dig.engine.secrets import hidden

__all__ = [
    "byte_progress",
    "console",
    "enable_progress",
    "messages_to_stderr",
    "printable",
    "progress_enabled",
    "say",
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
console = Console(highlight=False, soft_wrap=True)
_state = {"progress": True}


def enable_progress(enabled: bool) -> None:
    """Switches the bars on or off (``logging.progress``)."""
    _state["progress"] = enabled


def progress_enabled() -> bool:
    """Whether bars are wanted and there is a terminal to draw them on."""
    return _state["progress"] and console.is_terminal


def say(message: str) -> None:
    """Prints a line without what looks like a secret; square brackets in it are text, not markup."""
    console.print(escape(visible(hidden(message))))


def warn(message: str) -> None:
    """Prints a line that asks for attention, without what looks like a secret."""
    console.print(f"[yellow]warning:[/yellow] {escape(visible(hidden(message)))}")


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
