"""One W&B run: which one, whether the server can be reached, opened, written to, finished."""

from __future__ import annotations

import netrc
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

import httpx

from dig.config.schema import WandbConfig
from dig.engine.artifacts import atomic_path, read_json
from dig.engine.console import printable, warn
from dig.engine.own_files import read_own
from dig.engine.secrets import hidden
from dig.tracking.records import mend_records

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

__all__ = [
    "PLAIN",
    "trial",
    "trial_metrics",
    "Identity",
    "kept_id",
    "safe_name",
    "api_key",
    "why_offline",
    "Connection",
    "Mode",
    "connect",
]


PLAIN = "valid/"
"""In a trial's one W&B run the metrics of a stage stand behind its name; what begins so also stands for itself, since
sweeps name `valid/ndcg@10`."""
_POLICIES = ("sft", "grpo")


def trial() -> str | None:
    """The W&B run id that `wandb agent` gave this process; None where no agent started it."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def trial_metrics(stages: dict[str, Path]) -> dict[str, float]:
    """The validation of the policy that a trial ends with, also where it was trained before and comes from the cache.

    Args:
        stages: the folder of each finished stage's artifact.
    """
    for stage in reversed(_POLICIES):
        path = stages[stage] / "training.json" if stage in stages else None
        if path is not None and path.is_file():
            return {
                name: value
                for name, value in read_json(path).items()
                if name.startswith(PLAIN) and isinstance(value, float)
            }
    return {}


# Which W&B run a stage logs to: an id that outlives interruptions, a name, a group, a type of job.


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
    machine) continues in the same W&B run, while a build from nothing begins a new one; so nobody's run is ever mixed
    with another's, as it would be with an id computed from the configuration alone.
    """
    if path.is_file():
        run_id = read_own(path).decode("utf-8", "replace").strip()
        if _ID.fullmatch(run_id):
            return run_id
    made = f"{safe_name(job_type)[:40]}-{secrets.token_hex(6)}"
    with atomic_path(path) as temporary:
        temporary.write_text(f"{made}\n", encoding="utf-8")
    return made


def safe_name(text: str) -> str:
    """A name that W&B takes for ids and artifacts."""
    return _NAME.sub("-", text).strip("-.") or "run"


# Whether W&B can be logged to online: a key, a server that answers, a server that takes the key; in bounded time.


_QUERY = {"query": "query Viewer { viewer { id } }"}
_OVERALL = 2.0
"""Times the timeout of one step of a request that the whole request may take; a server may drip bytes for ever."""


def why_offline(base_url: str, timeout: float = 5.0) -> str | None:
    """Why logging online would fail, in words without any secret; None if it should work.

    Args:
        base_url: of the W&B server.
        timeout: seconds to wait for a connection and for an answer; all in all at most twice as long. Proxies are
            taken from the environment.
    """
    key = api_key(base_url)
    if key is None and not os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "there is no key: set WANDB_API_KEY, or run `wandb login`"
    reasons: list[str | None] = []
    asking = threading.Thread(target=lambda: reasons.append(_ask(base_url, key, timeout)), daemon=True)
    asking.start()
    asking.join(_OVERALL * timeout)
    return reasons[0] if reasons else f"{base_url} sends no whole answer"


def api_key(base_url: str) -> str | None:
    """The key for a server: WANDB_API_KEY, else what ``wandb login`` left in the netrc file."""
    key = os.environ.get("WANDB_API_KEY", "").strip()
    if key:
        return key
    named = os.environ.get("NETRC")
    for path in [named] if named else ["~/.netrc", "~/_netrc"]:
        try:
            entry = netrc.netrc(Path(path).expanduser()).authenticators(urlsplit(base_url).hostname or "")
        except (OSError, netrc.NetrcParseError):  # none there, or one that nobody can read
            continue
        if entry and entry[2]:
            return entry[2]
    return None


def _ask(base_url: str, key: str | None, timeout: float) -> str | None:
    auth = ("api", key) if key else None
    try:
        answer = httpx.post(f"{base_url.rstrip('/')}/graphql", json=_QUERY, auth=auth, timeout=timeout)
    except httpx.TimeoutException:
        return f"{base_url} does not answer within {timeout:g} s"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{base_url} cannot be reached ({type(error).__name__})"
    except ValueError as error:  # a key with characters that no header may hold, a proxy that is not an address
        return f"{base_url} cannot be asked ({type(error).__name__})"
    if answer.status_code in (401, 403):
        return f"{base_url} does not take the key"
    if answer.status_code != 200:
        return f"{base_url} answers with HTTP {answer.status_code}"
    return None if key is None else _refusal(base_url, answer)


def _refusal(base_url: str, answer: httpx.Response) -> str | None:
    try:
        viewer = answer.json()["data"]["viewer"]
    except (ValueError, KeyError, TypeError):
        return f"{base_url} answers as no W&B server does"
    return None if viewer else f"{base_url} does not take the key"


# One W&B run: opened, written to, finished. What fails is told once; nothing is raised into an experiment.


T = TypeVar("T")
Mode = Literal["online", "offline"]
_STAGED = "DIG_WANDB_STAGED"  # the WANDB_DATA_DIR that we set, so that processes started from here know it for ours
_INIT_SECONDS = 30.0
_GRACE = 30.0
"""Seconds beyond W&B's own time limit after which its `finish` is left alone."""
_STILL_OPEN = 20.0
"""Seconds in which a run is tried again that W&B calls *in use*."""


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
        except Exception as error:  # W&B is an onlooker: whatever happens to it, the experiment continues
            if not self._complained:
                self._complained = True
                warn(f"W&B: {what} failed ({_told(error)}); the experiment continues without")
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
    begun = time.monotonic()
    try:
        while True:
            try:
                return Connection(_init(config, identity, folder, content, mode), mode, config.finish_seconds)
            except Exception as error:
                # W&B's process of a run that was just killed has it open for some seconds more
                if "is in use" not in str(error) or time.monotonic() - begun > _STILL_OPEN:
                    raise
                _start_over()
                time.sleep(1.0)
    except Exception as error:  # wandb raises of its own kinds, of requests' and of protobuf's
        if mode == "offline":
            warn(f"W&B: no run could be opened ({_told(error)}); the experiment continues without")
            return None
        warn(f"W&B: no run could be opened online ({_told(error)}); it continues offline")
        _start_over()
    return connect(config, identity, folder, content, "offline")


def _init(config: WandbConfig, identity: Identity | None, folder: Path, content: Mapping[str, Any], mode: Mode) -> Run:
    # W&B reports its own crashes to a service of its own, even offline; that is the user's to allow.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    _leave_the_service_of_others()
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


def _leave_the_service_of_others() -> None:
    """Starts W&B's process anew where this one has none yet.

    A program that has W&B runs names its process to all that it starts (``WANDB_SERVICE``). There a run of ours that
    was killed stays open, and the same run, resumed, is refused as *in use*.
    """
    from wandb.sdk import wandb_setup

    begun = wandb_setup._singleton
    if begun is None or begun._pid != os.getpid():
        os.environ.pop("WANDB_SERVICE", None)


def _start_over() -> None:
    """Ends W&B's own process, which continues trying to open a run and lets nobody else open it.

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
