"""Waiting for what another process holds: told, for a bounded time, and ended by a signal at once."""

from __future__ import annotations

import fcntl
import os
import time
from typing import IO, Any

from dig.config.errors import UserError
from dig.engine.console import say

__all__ = ["wait_for_lock"]

_LOOK = 0.2
"""Seconds between two looks at a lock; the system's own wait would have no end."""
_TELL = 600.0
"""Seconds between two lines of one that waits."""
_HOURS = 24.0


def wait_for_lock(stream: IO[Any], held: str, seconds: float | None = None) -> None:
    """Takes the lock of an open file, which holds it until it is closed.

    Args:
        stream: the file.
        held: what is said before waiting: what is held, and by whom.
        seconds: to wait at most; None takes the environment's ``DIG_LOCK_HOURS``, or a day.

    Raises:
        UserError: it was held for as long as that.
    """
    if _taken(stream):
        return
    limit = _limit() if seconds is None else seconds
    begun = told = time.monotonic()
    say(f"{held}; waiting for it, {_words(limit)} at most")
    while not _taken(stream):
        now = time.monotonic()
        if now - begun >= limit:
            raise UserError(
                f"{held}, for {_words(limit)}; the same command goes on once it has ended, and "
                "DIG_LOCK_HOURS sets how long to wait"
            )
        if now - told >= _TELL:
            told = now
            say(f"{held}; waiting for {_words(now - begun)}")
        time.sleep(min(_LOOK, max(limit - (now - begun), 0.01)))


def _taken(stream: IO[Any]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _limit() -> float:
    text = os.environ.get("DIG_LOCK_HOURS", "").strip()
    try:
        hours = float(text) if text else _HOURS
    except ValueError:
        hours = -1.0
    if not 0 < hours < 1e5:
        raise UserError(f"DIG_LOCK_HOURS={text} is not a number of hours above 0", exit_code=2)
    return hours * 3600


def _words(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
