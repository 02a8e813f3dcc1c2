"""Starts ``chat_server.py`` as a process of its own and reads its log."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["ChatProcess"]

_SERVER = Path(__file__).with_name("chat_server.py")


class ChatProcess:
    """A chat server that behaves as the plan says until the block ends; see ``chat_server.py`` for the plan's keys."""

    def __init__(self, folder: Path, **plan: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.json").write_text(json.dumps(plan))
        (folder / "url").unlink(missing_ok=True)
        self._process = subprocess.Popen([sys.executable, str(_SERVER), str(folder)])

    def __enter__(self) -> ChatProcess:
        deadline = time.monotonic() + 20
        while not (self.folder / "url").is_file():
            assert self._process.poll() is None and time.monotonic() < deadline, "the chat server did not start"
            time.sleep(0.02)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def url(self) -> str:
        return (self.folder / "url").read_text()

    def log(self) -> list[dict[str, Any]]:
        """A line a request, in the order in which they were answered."""
        time.sleep(0.15)  # the server writes its log every twentieth of a second
        path = self.folder / "log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def paid(self) -> list[dict[str, Any]]:
        """The requests that the server bills."""
        return [line for line in self.log() if line["paid"]]
