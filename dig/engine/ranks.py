"""The processes of one launch: who this one is, and how rank 0 leads the others through artifacts by files.

Before a process group exists, ranks can only meet on the disk that they share. Beside each artifact that a launch of
several ranks asks for, rank 0 keeps a small file that says what it found or does. The others follow it and never judge
an artifact themselves: rank 0 may just be rebuilding a damaged one, or waiting for another job that builds it.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from dig.config.errors import UserError
from dig.engine.artifacts import write_json
from dig.engine.own_files import read_own_json
from dig.slurm.job import current_job

__all__ = ["RankZero", "follow", "global_rank", "launch_id", "launched", "leading", "world_size"]

_BEAT = 2.0
"""Seconds between two signs of life."""
_LOOK = 0.1
"""Seconds between two looks at the file."""
_OWN = "DIG_LAUNCH"


def launched() -> bool:
    """Whether a launcher (torchrun, srun, dig itself) started this process as one of several ranks."""
    return "RANK" in os.environ or "LOCAL_RANK" in os.environ or _in_srun()


def global_rank() -> int:
    """This process's rank, read from the launcher's environment before any process group exists."""
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    if _in_srun():
        return int(os.environ["SLURM_PROCID"])
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """Ranks of this launch as the launcher tells them; 1 where nobody launched."""
    if not launched():
        return 1
    if "RANK" in os.environ or "WORLD_SIZE" in os.environ:
        return int(os.environ.get("WORLD_SIZE", "1"))
    return int(os.environ.get("SLURM_NTASKS", "1"))


def launch_id() -> str:
    """What all ranks of this launch, and those of no other, have in common."""
    environment = os.environ
    if _OWN in environment:
        return environment[_OWN]
    if _in_srun():
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
        return "-".join(["slurm", *(environment.get(name, "0") for name in names)])
    if "RANK" in environment:
        elastic = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT")
        one_machine = environment.get("LOCAL_WORLD_SIZE") == environment.get("WORLD_SIZE")
        parent = str(os.getppid()) if one_machine else ""  # torchrun's own names may be those of the last launch
        return "-".join(["ranks", *(environment.get(name, "") for name in elastic), parent])
    environment[_OWN] = uuid.uuid4().hex  # ranks that Lightning starts from here inherit it
    return environment[_OWN]


class RankZero:
    """What rank 0 says about one artifact, renewed by a thread for as long as it has not said its last word.

    Args:
        file: where it says it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._count = 0
        self._state = {"state": "looking"}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="rank-zero")

    def building(self) -> None:
        """The artifact is not there; who builds along may begin."""
        self._say(state="building")

    def _say(self, **state: str) -> None:
        with self._lock:
            self._state = state
            self._count += 1
            write_json(self.file, {"launch": launch_id(), "count": self._count, **self._state})

    def _beat(self) -> None:
        while not self._done.wait(_BEAT):
            with suppress(OSError):  # a full disk is told by who needs it
                self._say(**self._state)

    def _stop(self) -> None:
        self._done.set()
        self._thread.join()


@contextmanager
def leading(file: Path) -> Generator[RankZero]:
    """Rank 0's side: signs of life while the block runs, then whether the artifact is there or why not."""
    file.parent.mkdir(parents=True, exist_ok=True)
    word = RankZero(file)
    word._say(state="looking")
    word._thread.start()
    try:
        yield word
    except BaseException as error:
        word._stop()
        with suppress(OSError):
            word._say(state="failed", reason=str(error) if isinstance(error, UserError) else type(error).__name__)
        raise
    word._stop()
    word._say(state="ready")


def follow(file: Path, what: str, patience: float, joins: bool = False) -> bool:
    """Another rank's side: waits until rank 0 says that the artifact is there.

    Args:
        file: where rank 0 speaks.
        what: is waited for, for messages.
        patience: seconds without a sign of life from rank 0 before giving up.
        joins: return as soon as rank 0 begins to build.

    Returns:
        Whether rank 0 builds, and this rank has to build along.

    Raises:
        UserError: rank 0 has failed, or gives no sign of life.
    """
    heard: dict[str, object] = {}
    since = time.monotonic()
    while True:
        word = _heard(file)
        if word != heard:
            heard, since = word, time.monotonic()
        state = word.get("state")
        if state == "ready":
            return False
        if state == "building" and joins:
            return True
        if state == "failed":
            raise UserError(f"{what}: rank 0 has failed: {word.get('reason')}")
        if time.monotonic() - since > patience:
            raise UserError(
                f"{what}: rank {global_rank()} has seen no sign of life from rank 0 for {patience:.0f} s in {file}; "
                "is rank 0 running, and does it share this folder (DIG_HOME)?"
            )
        time.sleep(_LOOK)


def _heard(file: Path) -> dict[str, object]:
    """Rank 0's last word in this launch; nothing of other launches."""
    try:
        content = read_own_json(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.get("launch") == launch_id() else {}


def _in_srun() -> bool:
    return current_job() is not None
