"""How long work took that was killed in between and went on in another process."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from dig.config.errors import UserError
from dig.engine.console import warn
from dig.engine.own_files import read_own_json, replace_text

__all__ = ["Stopwatch"]


class Stopwatch:
    """Runs from its making on, and counts what earlier attempts took, each until the last file that it wrote.

    Args:
        file: where it notes when an attempt began, until :meth:`forget`.
        work: the folder that all attempts write.
    """

    def __init__(self, file: Path, work: Path) -> None:
        self._file = file
        self._before = _earlier(file, work)
        if file.is_dir() and not file.is_symlink():  # nothing could be renamed to it
            shutil.rmtree(file)
            warn(f"{file} was not what a build leaves; it was removed")
        self._started = time.perf_counter()
        replace_text(file, json.dumps({"seconds": self._before, "since": time.time()}))

    def seconds(self) -> float:
        """Of all attempts together."""
        return self._before + time.perf_counter() - self._started

    def forget(self) -> None:
        """The next watch starts at 0."""
        self._file.unlink(missing_ok=True)


def _earlier(file: Path, work: Path) -> float:
    """What attempts took whose files are still there; nothing where none is, or the note cannot be read."""
    try:
        noted = read_own_json(file)
        written = max(path.lstat().st_mtime for path in work.rglob("*"))
        return float(noted["seconds"]) + max(written - float(noted["since"]), 0.0)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, UserError):
        return 0.0
