"""What the command line of ``python -m dig.sweep`` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dig.config import UserError, unknown_flag

__all__ = ["HELP", "Request", "read_request"]

HELP = """python -m dig.sweep FILE [experiment=NAME] [key=value …] [--flag]

Runs a sweep file in W&B's format without an account: method grid, random or bayes, early_terminate, run_cap. FILE's
command gives experiment= and key=value; those given here go before them, and a parameter that is given here does not
vary. The same command again goes on where the sweep stood, and joins it where it runs: from another terminal, another
node or a SLURM task that sees the same folder.

  --dry-run       prints the trials, the stages that they share and how often each is computed, and does nothing
  --status        prints the trials as they stand, writes tables and plots, and runs nothing
  --workers N     N processes on this machine, each with its share of cores and a device (default 1)
  --trials N      trials at most, in place of the file's run_cap
  --retry-failed  runs failed trials again
  --help          prints this text

The sweep lies in runs/sweeps/<name>/<id>/: journal.log (Optuna's), trials.csv, trials.parquet, sweep.html. Trials are
compared by validation; nothing is tested.

Exit codes: 0 done, 1 a trial failed, 2 wrong arguments or configuration, 130 interrupted."""
_SWITCHES = ("--dry-run", "--status", "--retry-failed", "--worker", "--help")
_NUMBERS = ("--workers", "--trials")


@dataclass(frozen=True)
class Request:
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


def read_request(given: Sequence[str]) -> Request:
    """Reads the arguments.

    Raises:
        UserError: with exit code 2, for a flag that is none, or no file.
    """
    words: list[str] = []
    switches: set[str] = set()
    numbers: dict[str, int] = {}
    waiting = iter(given)
    for word in waiting:
        name, equals, value = word.partition("=")
        if name in _NUMBERS:
            numbers[name] = _number(name, value if equals else next(waiting, ""))
        elif word in _SWITCHES:
            switches.add(word)
        elif word.startswith("-"):
            shown = [each for each in (*_SWITCHES, *_NUMBERS) if each != "--worker"]
            raise unknown_flag(word, shown)
        else:
            words.append(word)
    files = [word for word in words if "=" not in word]
    if len(files) != 1:
        what = (
            f"{files[1]}: one sweep file at a time" if files else "name a sweep file, for example sweeps/codebook.yaml"
        )
        raise UserError(f"{what}; arguments look like key=value", exit_code=2)
    return Request(
        Path(files[0]),
        tuple(word for word in words if "=" in word),
        "--dry-run" in switches,
        "--status" in switches,
        "--retry-failed" in switches,
        numbers.get("--workers", 1),
        numbers.get("--trials"),
        "--worker" in switches,
    )


def _number(name: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise UserError(f"{name} {value} must be a whole number of at least 1", exit_code=2)
    return int(value)
