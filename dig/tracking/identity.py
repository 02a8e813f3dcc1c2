"""Which W&B run a stage logs to: an id that outlives interruptions, a name, a group, a type of job."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from dig.engine.artifacts import atomic_path
from dig.engine.own_files import read_own

__all__ = ["Identity", "kept_id", "safe_name"]

_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Identity:
    """A W&B run.

    Attributes:
        id: its id; the same id is the same W&B run.
        name: what people see.
        group: the experiment's run, whose stages W&B shows together.
        job_type: the stage.
    """

    id: str
    name: str
    group: str
    job_type: str


def kept_id(path: Path, job_type: str) -> str:
    """The id in a file, made up and written there when there is none.

    A stage keeps it in its work folder, so that a build which was interrupted (killed, preempted, requeued on another
    machine) goes on in the same W&B run, while a build from nothing begins a new one; so nobody's run is ever mixed
    with another's, as it would be with an id computed from the configuration alone.
    """
    if path.is_file():
        found = read_own(path).decode("utf-8", "replace").strip()
        if _ID.fullmatch(found):
            return found
    made = f"{safe_name(job_type)[:40]}-{secrets.token_hex(6)}"
    with atomic_path(path) as temporary:
        temporary.write_text(f"{made}\n", encoding="utf-8")
    return made


def safe_name(text: str) -> str:
    """A name that W&B takes for ids and artifacts."""
    return _NAME.sub("-", text).strip("-.") or "run"
