"""One W&B run: opened, written to, finished. What fails is told once; nothing is raised into an experiment."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dig.config.schema import WandbConfig
from dig.engine.console import printable, warn
from dig.engine.secrets import hidden
from dig.tracking.identity import Identity
from dig.tracking.mend import mend_records

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

__all__ = ["Connection", "Mode", "connect"]

T = TypeVar("T")
Mode = Literal["online", "offline"]
_STAGED = "DIG_WANDB_STAGED"  # the WANDB_DATA_DIR that we set, so that processes started from here know it for ours
_INIT_SECONDS = 30.0
_GRACE = 30.0
"""Seconds beyond W&B's own time limit after which its `finish` is left alone."""


@dataclass
class Connection:
    """An open W&B run.

    Attributes:
        run: W&B's object.
        mode: how it was opened in the end.
        finish_seconds: that `finish` may take.
    """

    run: Run
    mode: Mode
    finish_seconds: int
    _complained: bool = False

    def attempt(self, what: str, action: Callable[[Run], T]) -> T | None:
        """Does something with the run; a failure is a line, and None. The first failure alone is told."""
        try:
            return action(self.run)
        except Exception as error:  # W&B is an onlooker: whatever happens to it, the experiment goes on
            if not self._complained:
                self._complained = True
                warn(f"W&B: {what} failed ({_told(error)}); the experiment goes on without")
            return None

    def log(self, values: Mapping[str, Any]) -> None:
        """Adds a step to the history."""
        self.attempt("logging", lambda run: run.log(dict(values)))

    def configure(self, values: Mapping[str, Any]) -> None:
        """Adds to the configuration."""
        self.attempt("the configuration", lambda run: run.config.update(dict(values), allow_val_change=True))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Sets values of the summary."""
        self.attempt("the summary", lambda run: run.summary.update(dict(values)))

    def finish(self, exit_code: int) -> None:
        """Ends the run, waiting for uploads a bounded time; what is not sent lies on disk for `wandb sync`."""
        ending = threading.Thread(
            target=self.attempt, args=("finish", lambda run: run.finish(exit_code=exit_code)), daemon=True
        )
        ending.start()
        ending.join(self.finish_seconds + _GRACE)
        if ending.is_alive():
            warn(f"W&B: finish takes longer than {self.finish_seconds} s; it is left alone")


def connect(
    config: WandbConfig, identity: Identity | None, folder: Path, content: Mapping[str, Any], mode: Mode
) -> Connection | None:
    """Opens a W&B run; one that cannot be opened online is opened offline, with a line, and one that cannot be opened
    at all is a line and None.

    Args:
        config: how.
        identity: which run; None takes the one that a sweep's agent named, with its project.
        folder: where its records lie, in a subfolder `wandb`.
        content: the configuration to show.
        mode: online or offline.
    """
    try:
        return Connection(_init(config, identity, folder, content, mode), mode, config.finish_seconds)
    except Exception as error:  # wandb raises of its own kinds, of requests' and of protobuf's
        if mode == "offline":
            warn(f"W&B: no run could be opened ({_told(error)}); the experiment goes on without")
            return None
        warn(f"W&B: no run could be opened online ({_told(error)}); it goes on offline")
        _start_over()
    return connect(config, identity, folder, content, "offline")


def _init(config: WandbConfig, identity: Identity | None, folder: Path, content: Mapping[str, Any], mode: Mode) -> Run:
    # W&B reports its own crashes to a service of its own, even offline; that is the user's to allow.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    # Files of tables wait here until they are sent; W&B's own place is the home folder, which does not travel with
    # the run and which another machine does not have. Files of media wait in folders of W&B's own choice.
    _stage_files_in(folder / "wandb" / "data")
    settings = wandb.Settings(
        console="off",  # what a terminal shows may hold texts of items
        disable_code=True,
        save_code=False,
        disable_git=not config.machine,
        x_disable_machine_info=not config.machine,
        x_disable_stats=not config.machine,
        x_disable_meta=not config.machine,
        x_save_requirements=config.machine,
        silent=True,  # dig says in a line of its own where a run is
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", _INIT_SECONDS)),
        finish_timeout=float(config.finish_seconds),
        reinit="create_new",  # a W&B run of the calling program stays its own
        symlink=False,
    )
    if not config.machine:
        settings.host = "unnamed"  # the name that W&B would find out itself
    named: dict[str, Any] = {}
    if identity is not None:
        mend_records(folder / "wandb", identity.id)
        named = {
            "id": identity.id,
            "name": identity.name,
            "group": identity.group,
            "job_type": identity.job_type,
            "project": config.project,
            "entity": config.entity,
        }
    return wandb.init(
        **named,
        dir=str(folder),
        config=dict(content),
        tags=config.tags or None,
        notes=config.notes,
        mode=mode,
        resume="allow",
        settings=settings,
    )


def _start_over() -> None:
    """Ends W&B's own process, which goes on trying to open a run and lets nobody else open it.

    Not where the calling program has W&B runs of its own, which would end with it.
    """
    import wandb
    from wandb.sdk import wandb_setup

    if wandb_setup.singleton().most_recent_active_run is None:
        ending = threading.Thread(target=wandb.teardown, args=(1,), daemon=True)
        ending.start()
        ending.join(_GRACE)


def _stage_files_in(folder: Path) -> None:
    """Tells W&B, unless the user told it another folder."""
    if os.environ.get("WANDB_DATA_DIR") in (None, os.environ.get(_STAGED)):
        os.environ["WANDB_DATA_DIR"] = os.environ[_STAGED] = str(folder)


def _told(error: BaseException) -> str:
    text = printable(hidden(str(error)), 200)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
