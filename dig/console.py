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

from dig.secrets import hidden

__all__ = [
    "byte_progress",
    "console",
    "enable_progress",
    "messages_to_stderr",
    "printable",
    "progress_enabled",
    "say",
    "track",
    "warn",
]

T = TypeVar("T")
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
    console.print(escape(hidden(message)))


def warn(message: str) -> None:
    """Prints a line that asks for attention, without what looks like a secret."""
    console.print(f"[yellow]warning:[/yellow] {escape(hidden(message))}")


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
