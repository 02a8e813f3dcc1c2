"""One worker, which takes trials as long as there are any; and several of them on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from optuna.trial import TrialState

from callbacks.monitoring import StoppedEarly, ValidationReports
from dig.config import UserError
from dig.engine.artifacts import atomic_path, disk_full
from dig.engine.console import say, warn
from dig.engine.own_files import open_own
from dig.engine.pipeline import run_experiment
from dig.sweeps.results import write_tables
from dig.sweeps.settings import Settings, shown_point
from dig.sweeps.trials import BEAT, Claim, TrialStore

__all__ = ["start_workers", "wait_for", "MOST_FAILURES", "work"]


def start_workers(count: int, arguments: Sequence[str], folder: Path) -> list[subprocess.Popen[bytes]]:
    """Starts all workers but this one, and takes this one's share of the machine.

    Args:
        count: workers in all.
        arguments: those of this process.
        folder: the sweep's; each worker's output goes to ``workers/<number>.log``.
    """
    if count == 1:
        return []
    devices = _devices()
    logs = folder / "workers"
    logs.mkdir(parents=True, exist_ok=True)
    started = []
    for number in range(1, count):
        path = logs / f"{number + 1}.log"
        with open_own(path, append=True) as log:
            command = [sys.executable, "-m", "dig.sweep", *arguments, "--worker"]
            started.append(
                subprocess.Popen(  # noqa: S603
                    command,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | _share(number, count, devices),
                )
            )
        say(f"worker {number + 1}: {path}")
    os.environ |= _share(0, count, devices)
    return started


def wait_for(workers: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Waits for all to end; says whether one of them left in the middle."""
    left = False
    for number, worker in enumerate(workers, start=2):
        code = worker.wait()
        if code not in (0, 1):
            left = True
            warn(f"worker {number} ended with {f'signal {-code}' if code < 0 else f'code {code}'}")
    return left


def _share(number: int, count: int, devices: Sequence[str]) -> dict[str, str]:
    """The environment of a worker: threads, and the device that it sees."""
    variables = {}
    if "OMP_NUM_THREADS" not in os.environ:
        variables["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // count))
    if len(devices) > 1:
        variables["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    return variables


def _devices() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES gives them."""
    import torch

    count = torch.cuda.device_count()  # asks the driver's library and starts no CUDA, so each worker may still choose
    named = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    return named[:count] if named else [str(device) for device in range(count)]


# One worker: takes trials as long as there are any, runs each in this process, and writes down what came of it.


MOST_FAILURES = 3
"""Failures in a row after which a worker gives up: the next would fail, too."""
_WAIT = 2.0


def work(settings: Settings, store: TrialStore) -> None:
    """Runs trials until none is left.

    Raises:
        UserError: several in a row failed, or the disk is full.
    """
    failures = 0
    while (claim := _next(store)) is not None:
        how = "resumes" if claim.taken_up else "starts"
        number = claim.trial.number + 1
        of = f" of {store.size}" if number <= store.size else ""  # more where failed ones were run again
        say(f"trial {number}{of} {how}: {shown_point(claim.point)}")
        try:
            failed = _run(settings, store, claim)
        finally:
            store.leases.release()
        write_tables(settings, store.trials())
        failures = failures + 1 if failed else 0
        if failures == MOST_FAILURES:
            raise UserError(
                f"{failures} trials in a row failed, so the sweep stops; once that is mended the same "
                "command resumes, and with --retry-failed also runs those again"
            )


def _next(store: TrialStore) -> Claim | None:
    """The next trial; waits where a worker elsewhere has shown no sign of life for a while."""
    while True:
        claim = store.claim()
        if claim is not None:
            return claim
        if not any(holder.age is not None and holder.age > 2 * BEAT for _, holder in store.held()):
            return None
        time.sleep(_WAIT)


def _run(settings: Settings, store: TrialStore, claim: Claim) -> bool:
    """Runs a trial; says whether it failed."""
    metric, started = settings.metric, time.perf_counter()

    def report(validation: int, value: float) -> bool:
        _report(claim, validation, value)
        return claim.trial.should_prune()

    def watchers(stage: str) -> Sequence[Callback]:
        return [ValidationReports(metric.name, report)] if stage == metric.stage and metric.validated else []

    seconds = lambda: round(time.perf_counter() - started, 1)  # noqa: E731
    try:
        run = run_experiment(settings.config(claim.point, claim.trial.number), watchers)
        artifact = run.artifacts[metric.stage]
        value = metric.read(artifact)
        for validation, each in enumerate(metric.history(artifact), start=1):  # of a stage that was there already
            _report(claim, validation, each)
    except StoppedEarly as stop:
        say(f"trial {claim.trial.number + 1}: stopped early, {stop}")
        store.finish(claim, TrialState.PRUNED, None, seconds=seconds())
        return False
    except Exception as error:
        if disk_full(error) or (error.__cause__ is not None and disk_full(error.__cause__)):
            raise
        _fail(settings, store, claim, error, seconds())
        return True
    say(f"trial {claim.trial.number + 1}: {metric.name} {value:.4f}")
    store.finish(claim, TrialState.COMPLETE, value, seconds=seconds())
    return False


def _report(claim: Claim, validation: int, value: float) -> None:
    """Tells Optuna; what a trial reported before it was interrupted stays."""
    reported = claim.trial.study.get_trials(deepcopy=False)[claim.trial.number].intermediate_values
    if validation not in reported:
        claim.trial.report(value, validation)


def _fail(settings: Settings, store: TrialStore, claim: Claim, error: Exception, seconds: float) -> None:
    reason = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, UserError):
        reason = f"{type(error).__name__}: {reason}"
        log = settings.folder / "failures" / f"trial-{claim.trial.number + 1:04d}.txt"
        with atomic_path(log) as temporary:
            temporary.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        warn(f"trial {claim.trial.number + 1} failed: {reason[:300]} (traceback: {log})")
    else:
        warn(f"trial {claim.trial.number + 1} failed: {reason}")
    store.finish(claim, TrialState.FAIL, None, seconds=seconds, reason=reason[:1000])
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
