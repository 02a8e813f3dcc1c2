"""Who runs which trial: a file a running trial, whose age tells whether its worker still lives.

Optuna's journal has no heartbeats. A worker touches its trial's file every few seconds. Where both run on one machine,
the process itself is looked up; else the file's age counts, measured on the clock of the file system alone, so that
clocks of machines may differ or jump.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dig.engine.artifacts import write_json
from dig.engine.own_files import read_own_json

__all__ = ["BEAT", "STALE", "Holder", "Leases"]

BEAT = 10.0
"""Seconds between two signs of life."""
STALE = 90.0
"""Seconds without one after which a worker elsewhere is taken for dead."""


class Holder(NamedTuple):
    """Who holds a trial: the machine, and seconds since a sign of life; None where the process itself was seen."""

    host: str
    age: float | None


class Leases:
    """The leases of a sweep.

    Args:
        folder: where their files lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._held: int | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def holder(self, number: int) -> Holder | None:
        """Who runs a trial; None if nobody does, or nobody any more."""
        path = self._path(number)
        try:
            found = read_own_json(path)  # opened: a fresh look, also through a network file system's cache
            touched = path.stat().st_mtime
        except (OSError, ValueError):
            return None
        if not isinstance(found, dict) or not isinstance(found.get("pid", 0), int):
            return None
        if found.get("where") == _where():
            alive = _started(found.get("pid", 0)) == found.get("started")
            return Holder(str(found.get("host")), None) if alive else None
        age = max(0.0, self._now() - touched)
        return None if age > STALE else Holder(str(found.get("host")), age)

    def hold(self, number: int) -> None:
        """Takes a trial and shows signs of life until it is released."""
        write_json(
            self._path(number),
            {"host": socket.gethostname(), "where": _where(), "pid": os.getpid(), "started": _started(os.getpid())},
        )
        self._held = number
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(self._path(number), self._ended), daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Gives the trial back."""
        if self._held is None:
            return
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._path(self._held).unlink(missing_ok=True)
        self._held = None

    def _path(self, number: int) -> Path:
        return self.folder / f"trial-{number + 1:04d}.json"

    @staticmethod
    def _beat(path: Path, ended: threading.Event) -> None:
        while not ended.wait(BEAT):
            with suppress(OSError):
                os.utime(path)

    def _now(self) -> float:
        """The time as the file system has it."""
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".now-") as probe:
            probe.write(b"now")
            probe.flush()
            return os.fstat(probe.fileno()).st_mtime


def _where() -> str:
    """A name that is the same for processes that see each other."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> str | None:
    """When a process of this machine started, in whatever unit; None if there is none."""
    if pid <= 0:
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    else:
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"
