"""Runs a sweep from its start, or from where it stands, to its tables and plots."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING

from dig.config import UserError
from dig.engine.artifacts import atomic_path, shown_path
from dig.engine.console import console, say, warn
from dig.engine.machine import check_count
from dig.sweeps.request import SweepRequest
from dig.sweeps.settings import Settings

if TYPE_CHECKING:
    from dig.sweeps.trials import TrialStore

__all__ = ["run_sweep"]

_RANKS = ("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")


def run_sweep(settings: Settings, request: SweepRequest) -> int:
    """Does what is asked; returns the exit code: 1 if any trial failed.

    Raises:
        UserError: Optuna is missing, a parameter makes no difference, or too many trials failed in a row.
    """
    _require_optuna()
    _train_alone()
    if not request.worker:
        check_count("--workers ", request.workers)
    from dig.sweeps.check import check_effects
    from dig.sweeps.results import preview
    from dig.sweeps.trials import TrialStore

    if not (request.worker or request.status):
        check_effects(settings)
    if request.dry_run:
        preview(settings)
        return 0
    store = TrialStore(settings)
    _prepare_folder(settings)
    if request.status:
        return _finish(settings, store, request)
    if request.retry_failed and not request.worker:
        say(f"{store.retry_failed()} failed trials are run again")
    for name in settings.pinned:
        say(f"{name} does not vary: it was given here")
    from dig.sweeps.worker import start_workers, wait_for, work

    workers = [] if request.worker else start_workers(request.workers, _again(request), settings.folder)
    try:
        work(settings, store)
        if wait_for(workers):
            work(settings, store)  # what a worker that died left behind
    except UserError:
        _finish(settings, store, request)
        raise
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.terminate()
    return _finish(settings, store, request)


def _train_alone() -> None:
    """A worker trains in one process, also where it is one of many SLURM tasks: hides the others from Lightning.

    Raises:
        UserError: with exit code 2, under torchrun.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ or "RANK" in os.environ:
        raise UserError("a sweep's workers are processes of their own: start it without torchrun", exit_code=2)
    for name in _RANKS:
        os.environ.pop(name, None)


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401 - whether it is there
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise UserError("sweeps are run by Optuna, which is not installed: pip install 'dig[sweep]'") from None


def _again(request: SweepRequest) -> list[str]:
    """The arguments of another worker of the same sweep."""
    trials = [] if request.trials is None else [f"--trials={request.trials}"]
    return [str(request.file), *request.arguments, *trials]


def _prepare_folder(settings: Settings) -> None:
    with atomic_path(settings.folder / "sweep.yaml") as temporary:
        shutil.copyfile(settings.file.path, temporary)
    latest = settings.folder.parent / "latest"
    temporary = latest.with_name(f".latest.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(settings.folder.name)
    temporary.replace(latest)


def _finish(settings: Settings, store: TrialStore, request: SweepRequest) -> int:
    """Tables and plots; what others are still at is said."""
    from dig.sweeps.page import write_page
    from dig.sweeps.results import table_of_trials, trial_rows, write_tables

    trials = store.trials()
    rows = trial_rows(settings, trials)
    write_tables(settings, trials)
    failed = any(row.state == "failed" for row in rows)
    if request.worker:
        return int(failed)
    write_page(settings, store.study, rows)
    console.print(table_of_trials(settings, rows))
    for row in rows:
        if row.reason:
            say(f"trial {row.number} failed: {row.reason}")
    for trial, holder in store.held():
        say(f"trial {trial.number + 1} runs on {holder.host}; whoever ends last writes the plots")
    best = next((row for row in rows if row.state == "done"), None)
    if best is not None:
        command = shlex.join(["python", "-m", "dig.train", *settings.command(best.point)])
        passed = [
            row
            for row in rows
            if row.state == "stopped early"
            and row.value is not None
            and best.value is not None
            and settings.metric.better(row.value, best.value)
        ]
        for row in passed:
            warn(
                f"trial {row.number} was stopped early though a validation before had found {row.value:.4f}; "
                "early_terminate.strict: false compares the best so far"
            )
        say(f"the best trial as a run, with its test: {command}")
    say(f"sweep: {shown_path(settings.folder)}")
    return int(failed)
