"""Waiting for another process: told, bounded, and over at once with a signal."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from dig.config import UserError
from dig.engine.artifacts import lock
from dig.engine.console import console
from dig.engine.own_files import wait_for_lock
from dig.engine.signals import Preempted, watched
from dig.interests.asking.store import AnswerStore


def held(path: Path):
    stream = path.open("a")
    fcntl.flock(stream, fcntl.LOCK_EX)
    return stream


def test_a_lock_is_waited_for_as_long_as_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard 5: a lock has a whole limit, told before the wait and in the error after it."""
    path = tmp_path / "a.lock"
    error = pytest.raises(UserError, match=r"a\.lock is held, for 0\.3 s; .*DIG_LOCK_HOURS")
    with held(path), console.capture() as text, path.open("a") as stream, error:
        wait_for_lock(stream, "a.lock is held", 0.3)
    assert text.get().count("a.lock is held; waiting for it, 0.3 s at most") == 1
    for value in ("soon", "0", "-1", "nan"):
        monkeypatch.setenv("DIG_LOCK_HOURS", value)
        with held(path), pytest.raises(UserError, match="not a number of hours"), lock(path, "held"):
            pass


def test_whoever_waits_goes_on_when_the_lock_is_free(tmp_path: Path) -> None:
    """Guard 5: the limit is for who holds a lock for ever."""
    stream = held(tmp_path / "a.lock")
    threading.Timer(0.5, stream.close).start()
    with console.capture() as text, lock(tmp_path / "a.lock", "somebody works"):
        pass
    assert "somebody works; waiting for it, 24 h at most" in text.get()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_who_waits_for_a_lock(tmp_path: Path, number: int) -> None:
    """Guard 5: a process that waits for a lock, of an artifact or of the answers, ends at once."""
    with AnswerStore(tmp_path / "answers.sqlite") as store, held(tmp_path / "answers.lock"):
        timer = threading.Timer(0.4, os.kill, (os.getpid(), number))
        begun = time.monotonic()
        with pytest.raises((Preempted, KeyboardInterrupt)), watched(grace=30.0, may_requeue=False):
            timer.start()
            with store.asking():
                pass
    assert time.monotonic() - begun < 3
