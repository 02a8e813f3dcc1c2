"""Kills whole runs at random moments and starts them again: ``python tests/kills.py [--kills N] [key=value …]``.

Each trial has a cache of its own. It is killed with SIGKILL, every process of it, at a moment drawn from the time that
an undisturbed run takes, and started again. Its metrics must equal the undisturbed run's, and nothing that was finished
before the kill may be built anew. Prints a table; exit code 1 where a trial failed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from rich.console import Console
from rich.table import Table
from support.workplace import SMALL, Workplace, built_artifacts

_PATIENCE = 3600.0  # seconds; the machine may be busy


@dataclass(frozen=True)
class Trial:
    """What became of a killed run.

    Attributes:
        moment: seconds after the start at which it was killed.
        finished: stages that were done by then.
        resumed: what the second start said of checkpoints.
        kept: nothing finished was built anew.
        equal: its metrics equal the undisturbed run's.
    """

    moment: float
    finished: int
    resumed: str
    kept: bool
    equal: bool


def undisturbed(folder: Path, arguments: tuple[str, ...], settings: tuple[str, ...]) -> tuple[dict, float]:
    """Metrics and seconds of a run that nobody disturbs."""
    workplace = place(folder, settings)
    started = time.monotonic()
    workplace.run(*arguments, timeout=_PATIENCE)
    return workplace.metrics(), time.monotonic() - started


def kill_and_go_on(
    folder: Path, moment: float, metrics: dict, arguments: tuple[str, ...], settings: tuple[str, ...]
) -> Trial:
    """Kills a run after so many seconds and lets the same command finish it."""
    workplace = place(folder, settings)
    process = workplace.start(*arguments, start_new_session=True)
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    before = built_artifacts(workplace)
    output = workplace.run(*arguments, timeout=_PATIENCE)
    resumed = [line.partition(":")[0] for line in output.splitlines() if "resumes from the checkpoint" in line]
    kept = built_artifacts(workplace).items() >= before.items()
    found = Trial(moment, len(before), ", ".join(resumed), kept, workplace.metrics() == metrics)
    shutil.rmtree(folder)
    return found


def place(folder: Path, settings: tuple[str, ...]) -> Workplace:
    folder.mkdir(parents=True)
    return Workplace(folder, settings=settings, preloaded=settings == SMALL)


def moments(kills: int, seconds: float, seed: int) -> list[float]:
    """Where to kill: drawn within equal parts of a run's time, so that none of it is spared by chance."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    return [(part + draw.random()) * seconds / kills for part in range(kills)]


def main() -> int:
    """Runs the trials and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="trials side by side")
    parser.add_argument("--small", action="store_true", help="a shop of 80 items and small models")
    parser.add_argument("arguments", nargs="*", help="key=value")
    asked = parser.parse_args()
    settings = SMALL if asked.small else ("experiment=quickstart", "logging.progress=false")
    folder, arguments = Path(mkdtemp(prefix="kills-")), tuple(asked.arguments)
    metrics, seconds = undisturbed(folder / "undisturbed", arguments, settings)
    table = Table(title=f"{asked.kills} kills of a run of {seconds:.0f} s", title_justify="left")
    for heading in ("killed after", "finished by then", "resumed in", "nothing built anew", "same metrics"):
        table.add_column(heading)
    with ThreadPoolExecutor(asked.jobs) as pool:
        trials = list(
            pool.map(
                lambda each: kill_and_go_on(folder / str(each[0]), each[1], metrics, arguments, settings),
                enumerate(moments(asked.kills, seconds, asked.seed)),
            )
        )
    for each in trials:
        table.add_row(
            f"{each.moment:.1f} s",
            f"{each.finished} artifacts",
            each.resumed or "-",
            "yes" if each.kept else "NO",
            "yes" if each.equal else "NO",
        )
    Console().print(table)
    shutil.rmtree(folder)
    return int(not all(each.kept and each.equal for each in trials))


if __name__ == "__main__":
    sys.exit(main())
