"""What the command line of ``dig sweep`` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dig.config import UserError
from dig.config.arguments import Options, number_from

__all__ = ["SweepRequest", "read_request", "sweep_options"]

_USAGE = "dig sweep FILE [experiment=NAME] [key=value …] [--flag]"
_ABOUT = """\
Runs a sweep file in W&B's format without an account: method grid, random or bayes, early_terminate, run_cap. FILE's
command gives experiment= and key=value; those given here go before them, and a parameter that is given here does not
vary. The same command again resumes where the sweep stood, and joins it where it runs: from another terminal, another
node or a SLURM task that sees the same folder."""
_END = """\
The sweep lies in runs/sweeps/<name>/<id>/: journal.log (Optuna's), trials.csv, trials.parquet, sweep.html. Trials are
compared by validation; nothing is tested.

Exit codes: 0 done, 1 a trial failed, 2 wrong arguments or configuration, 130 interrupted."""


def sweep_options() -> Options:
    """The options of ``dig sweep``."""
    options = Options(_USAGE, _ABOUT, _END)
    stages = "prints the trials, the stages that they share and how often each is computed, and does nothing"
    options.switch("--dry-run", stages)
    options.switch("--status", "prints the trials as they stand, writes tables and plots, and runs nothing")
    processes = "N processes on this machine, each with its share of cores and a device (default 1)"
    options.value("--workers", "N", processes, read=number_from(1), default=1)
    options.value("--trials", "N", "trials at most, in place of the file's run_cap", read=number_from(1))
    options.switch("--retry-failed", "runs failed trials again")
    options.switch("--worker", None)  # how a sweep starts its own
    return options


@dataclass(frozen=True)
class SweepRequest:
    """What is asked for.

    Attributes:
        file: the sweep file.
        arguments: ``experiment=NAME`` and ``key=value``.
        dry_run, status, retry_failed: as the flags say.
        workers: processes.
        trials: at most; None as the file says.
        worker: whether another process started this one and looks after the end.
    """

    file: Path
    arguments: tuple[str, ...]
    dry_run: bool = False
    status: bool = False
    retry_failed: bool = False
    workers: int = 1
    trials: int | None = None
    worker: bool = False


def read_request(given: Sequence[str]) -> SweepRequest:
    """Reads the arguments.

    Raises:
        UserError: with exit code 2, for a flag that is none, or no file.
    """
    options, words = sweep_options().read(given)
    files = [word for word in words if "=" not in word]
    if len(files) != 1:
        what = (
            f"{files[1]}: one sweep file at a time" if files else "name a sweep file, for example sweeps/codebook.yaml"
        )
        raise UserError(f"{what}; arguments look like key=value", exit_code=2)
    return SweepRequest(
        Path(files[0]),
        tuple(word for word in words if "=" in word),
        options.dry_run,
        options.status,
        options.retry_failed,
        options.workers,
        options.trials,
        options.worker,
    )
