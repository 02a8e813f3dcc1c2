"""The quickstart killed with every process of it, at random moments, again and again until it is done."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from support.workplace import Workplace, built_artifacts

from faults.commands import Command, finish, start
from faults.commands import run as run_command
from faults.verdicts import LOST, Ending, Figures, verdict
from faults.workshop import Workshop, metrics_of

__all__ = ["run"]

_KILLS, _SMALL = 20, 6
_SHARE = 0.25
"""A restarted run is killed within this share of the time that an undisturbed one takes."""
_PATIENCE = 1500.0


@dataclass(frozen=True)
class _Job:
    """What is killed: its command, the name of its experiment, and how an undisturbed run ended."""

    command: Command
    experiment: str
    undisturbed: Ending


def run(workshop: Workshop) -> Figures:
    """Kills a run at moments drawn after each of its starts; what is killed resumes from what is on disk."""
    figures = Figures("kills", "kills of the quickstart at random moments")
    job = _undisturbed(workshop)
    seconds = job.undisturbed.seconds
    figures.remarks.append(
        f"an undisturbed run took {seconds:.0f} s; a run was killed within {_SHARE:.0%} of that "
        "after each of its starts, and one that came to its end made room for the next"
    )
    rng = random.Random(workshop.seed)  # noqa: S311 - no secret
    left, runs = _SMALL if workshop.small else _KILLS, 0
    while left > 0:
        runs += 1
        left -= _one_run(workshop, job, figures, rng, left)
    figures.remarks.append(f"{runs} runs from an empty home")
    return figures


def _undisturbed(workshop: Workshop) -> _Job:
    if workshop.small:
        shop = workshop.shop
        command, experiment = shop.train, "small"
    else:
        command, experiment = ("dig.train", "experiment=quickstart", "logging.progress=false"), "quickstart"
    place = workshop.place("undisturbed")
    ending = run_command(command, place, place / "home", _PATIENCE)
    if ending.code != 0:
        raise RuntimeError(f"the undisturbed run failed: {ending.text}")
    return _Job(command, experiment, replace(ending, answer=_answer(place, experiment)))


def _one_run(workshop: Workshop, job: _Job, figures: Figures, rng: random.Random, most: int) -> int:
    """Kills one run until it is done or was killed ``most`` times, then lets it finish; how often it was killed."""
    place = workshop.place("killed")
    workplace = Workplace(place)
    built: dict[str, int] = {}
    lost: list[str] = []
    kills = 0
    while kills < most:
        moment = rng.uniform(0.0, _SHARE * job.undisturbed.seconds)
        killed = _kill(job.command, place, moment)
        if killed is None:
            break
        kills += 1
        now = built_artifacts(workplace)
        lost += [path for path, written in built.items() if now.get(path) != written]
        built = now
        figures.count("killed after a random time (SIGKILL, its whole group)", "killed", killed)
    ending = run_command(job.command, place, place / "home", _PATIENCE)
    ending = replace(ending, answer=_answer(place, job.experiment) if ending.code == 0 else None)
    now = built_artifacts(workplace)
    lost += [path for path, written in built.items() if now.get(path) != written]
    what = verdict(ending, job.undisturbed)
    figures.count("the same command afterwards, to its end", LOST if lost else what, ending, ", ".join(lost)[:300])
    row = figures.row("the same command afterwards, to its end")
    row.lost = f"{len(lost)} finished stages" if lost else row.lost
    return kills


def _kill(command: Command, place: Path, moment: float) -> Ending | None:
    """Starts a command and kills it with all that it started; None where it had ended before."""
    began = time.monotonic()
    process = start(command, place, place / "home")
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return finish(process, command, 30.0, began)
    finish(process, command, 30.0, began)
    return None


def _answer(place: Path, experiment: str) -> object:
    path = place / "runs" / experiment / "latest"
    return metrics_of(path) if (path / "metrics.json").is_file() else None
