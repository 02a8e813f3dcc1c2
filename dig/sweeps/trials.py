"""What was tried, by whom, and what came of it: Optuna's journal in the sweep's folder, shared by all workers."""

from __future__ import annotations

import math
import os
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dig.config import UserError
from dig.engine.artifacts import fingerprint, write_json
from dig.engine.own_files import open_own, read_own_json
from dig.sweeps.file import Bands
from dig.sweeps.settings import Settings
from dig.sweeps.space import Point

__all__ = ["BEAT", "STALE", "Holder", "Leases", "BandPruner", "falls_behind", "Claim", "TrialStore", "sampler_for"]


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
            content = read_own_json(path)  # opened: a fresh look, also through a network file system's cache
            touched = path.stat().st_mtime
        except (OSError, ValueError):
            return None
        if not isinstance(content, dict) or not isinstance(content.get("pid", 0), int):
            return None
        if content.get("where") == _where():
            alive = _started(content.get("pid", 0)) == content.get("started")
            return Holder(str(content.get("host")), None) if alive else None
        age = max(0.0, self._now() - touched)
        return None if age > STALE else Holder(str(content.get("host")), age)

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


# W&B's ``early_terminate: hyperband`` as a pruner of Optuna.
#
# W&B's is not a bracketed Hyperband: at each band a trial must be among the best ``1/eta`` of all that came so far. The
# rule is that of its package `sweeps`, version 0.3.0 (``hyperband_stop_runs``), and a test compares the two.


class BandPruner(optuna.pruners.BasePruner):
    """Stops a trial that falls behind at the last band that it reached.

    Args:
        bands: where and how many.
    """

    def __init__(self, bands: Bands) -> None:
        self.bands = bands

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the trial should stop, judged by all trials of the study."""
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        others = [each for each in study.get_trials(deepcopy=False) if each.number != trial.number]
        return falls_behind(
            [sign * value for value in _history(trial)],
            [[sign * value for value in _history(each)] for each in others],
            self.bands,
        )


def falls_behind(history: Sequence[float], others: Sequence[Sequence[float]], bands: Bands) -> bool:
    """Whether a history, of which less is better, is not among the best ``1/eta`` at its last band.

    Args:
        history: its values, one a validation.
        others: those of all other trials, finished, stopped and running.
        bands: the rule.
    """
    reached = [band for band in bands.at if band <= len(history)]
    if not reached:
        return False
    band = reached[-1]
    values = sorted(each[band - 1] for each in (history, *others) if len(each) >= band)
    threshold = values[int(len(values) / bands.eta)]
    return (history[band - 1] if bands.strict else min(history)) > threshold


def _history(trial: optuna.trial.FrozenTrial) -> list[float]:
    """Values by validation; a number that is missing counts as the one before it."""
    history: list[float] = []
    for step in range(1, (trial.last_step or 0) + 1):
        value = trial.intermediate_values.get(step, history[-1] if history else math.nan)
        history.append(value)
    return [value for value in history if math.isfinite(value)]


# What was tried, by whom, and what came of it: Optuna's journal in the sweep's folder, shared by all workers.


_RETRY = "retry_of"


@dataclass(frozen=True)
class Claim:
    """A trial that is this worker's to run.

    Attributes:
        trial: Optuna's.
        point: what varies.
        taken_up: whether another worker had begun it.
    """

    trial: optuna.Trial
    point: Point
    taken_up: bool


class TrialStore:
    """The trials of a sweep.

    Of two workers that ask at once, one waits: a lock file that also holds on network file systems guards the few
    milliseconds in which a trial is handed out. So no point of a grid is ever run by two.

    Args:
        settings: the sweep.
    """

    def __init__(self, settings: Settings) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.settings = settings
        self._grid = settings.space.grid(settings.limit) if settings.file.method == "grid" else None
        settings.folder.mkdir(parents=True, exist_ok=True)
        self.leases = Leases(settings.folder / "leases")
        journal = settings.folder / "journal.log"
        lock = JournalFileSymlinkLock(str(journal))
        if journal.is_symlink():
            open_own(journal)  # says so: Optuna would write to whatever it points to
        _mend(journal, lock)
        bands = settings.file.bands
        try:
            self.study = optuna.create_study(
                study_name=settings.folder.name,
                storage=JournalStorage(JournalFileBackend(str(journal), lock)),
                direction="maximize" if settings.metric.maximize else "minimize",
                pruner=BandPruner(bands) if bands else optuna.pruners.NopPruner(),
                load_if_exists=True,
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise UserError(
                f"{journal} is damaged ({reason}), so the trials of this sweep are not known; move the folder away, "
                "and the sweep begins anew (what its trials trained stays in the cache)"
            ) from None

    @property
    def size(self) -> int:
        """Trials that the sweep will have."""
        limit = self.settings.limit
        points = len(self._grid) if self._grid is not None else limit or 0
        return min(points, limit) if limit else points

    def trials(self) -> list[FrozenTrial]:
        """All trials, without failures that were tried again."""
        trials = self.study.get_trials(deepcopy=False)
        again = {each.user_attrs[_RETRY] for each in trials if _RETRY in each.user_attrs}
        return [each for each in trials if each.number not in again]

    def claim(self) -> Claim | None:
        """The next trial: one whose worker died, one to be tried again, or a new one; None if there is none."""
        with self._lock():
            trials = self.study.get_trials(deepcopy=False)
            if self._target_reached(trials):
                return None
            left = next((each for each in trials if each.state == TrialState.RUNNING and not self.holder(each)), None)
            if left is not None:
                trial = optuna.Trial(self.study, left._trial_id)
            elif any(each.state == TrialState.WAITING for each in trials):
                trial = self.study.ask()
            else:
                index = sum(_RETRY not in each.user_attrs for each in trials)
                if index >= self.size:
                    return None
                if self._grid is not None:
                    self.study.enqueue_trial(self.settings.space.coordinates(self._grid[index]))
                trial = self.study.ask()
            self.study.sampler = sampler_for(self.settings, trial.number)
            point = self.settings.space.draw(trial)
            trial.set_user_attr("point", point)
            self.leases.hold(trial.number)
            return Claim(trial, point, left is not None)

    def holder(self, trial: FrozenTrial) -> Holder | None:
        """Who runs a trial."""
        return self.leases.holder(trial.number)

    def held(self) -> list[tuple[FrozenTrial, Holder]]:
        """Trials that run now."""
        running = [each for each in self.study.get_trials(deepcopy=False) if each.state == TrialState.RUNNING]
        return [(each, holder) for each in running if (holder := self.holder(each)) is not None]

    def finish(self, claim: Claim, state: TrialState, value: float | None, **notes: Any) -> None:
        """Writes down what came of a trial."""
        for name, note in notes.items():
            claim.trial.set_user_attr(name, note)
        self.study.tell(claim.trial, value, state, skip_if_finished=True)

    def retry_failed(self) -> int:
        """Asks for every failed trial once more; says how many."""
        with self._lock():
            failed = [each for each in self.trials() if each.state == TrialState.FAIL]
            for each in failed:
                self.study.enqueue_trial(each.params, user_attrs={_RETRY: each.number})
        return len(failed)

    def _target_reached(self, trials: Sequence[FrozenTrial]) -> bool:
        done = (each for each in trials if each.state == TrialState.COMPLETE)
        return any(each.value is not None and self.settings.metric.reaches_target(each.value) for each in done)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        path = self.settings.folder / "claims"
        open_own(path).close()
        with _locked(JournalFileSymlinkLock(str(path))):
            yield


def sampler_for(settings: Settings, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial: its draws follow from the seed and the trial's number, whoever makes them."""
    seed = int(fingerprint([settings.base.seed, number])[:8], 16)
    if settings.file.method == "bayes":
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return optuna.samplers.RandomSampler(seed=seed)  # a grid's points are fixed before they are drawn


@contextmanager
def _locked(lock: JournalFileSymlinkLock) -> Iterator[None]:
    lock.acquire()
    try:
        yield
    finally:
        with suppress(RuntimeError):  # a stall of half a minute, and another took it away
            lock.release()


def _mend(journal: Path, lock: JournalFileSymlinkLock) -> None:
    """Drops a last line that a full disk cut off: Optuna would stumble over it for ever."""
    if not journal.is_file():
        return
    with _locked(lock), journal.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        if not size:
            return
        stream.seek(max(0, size - 1))
        if stream.read(1) == b"\n":
            return
        stream.seek(0)
        whole = stream.read()
        stream.truncate(whole.rfind(b"\n") + 1)
