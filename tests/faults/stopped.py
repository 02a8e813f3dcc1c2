"""SIGTERM and SIGINT at random moments, the first third of a second included: how it ends, and how soon."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from faults.commands import Command, finish, start
from faults.commands import run as run_command
from faults.verdicts import LOST, Ending, Figures, stop_verdict, verdict
from faults.workshop import Workshop, metrics_of

__all__ = ["run"]

_TIMES, _SMALL = 8, 2
_EARLY = 0.3
_END = 10.0
"""Seconds within which a process that was told to stop has ended."""
_CODES = {signal.SIGTERM: (75, 143, -signal.SIGTERM), signal.SIGINT: (130, -signal.SIGINT)}
"""75 told to end, 130 interrupted; the signal itself where the interpreter had not begun with the command."""


def run(workshop: Workshop) -> Figures:
    """Sends a signal after a drawn time to a command that an interpreter of its own runs, and starts it again."""
    figures = Figures("signals", "SIGTERM and SIGINT at random moments")
    shop = workshop.shop
    rng = random.Random(workshop.seed)  # noqa: S311 - no secret
    place = workshop.place("stopped")
    began = time.monotonic()
    undisturbed = run_command(shop.train, place, place / "home", limit=600.0, fresh=True)
    seconds = time.monotonic() - began
    times = _SMALL if workshop.small else _TIMES
    for number in (signal.SIGTERM, signal.SIGINT):
        place = workshop.place("stopped")
        for told, latest in ((f"within the first {_EARLY} s", _EARLY), ("at any moment", 0.7 * seconds)):
            for _ in range(times):
                moment = rng.uniform(0.02, latest)
                ending = _stop(shop.train, place, number, moment)
                if ending is None:
                    break
                what = stop_verdict(ending, _CODES[number], _END)
                figures.count(f"{number.name} {told}: dig.train", what, ending, f"after {moment:.2f} s")
        ending = run_command(shop.train, place, place / "home", limit=600.0)
        latest_run = place / "runs" / "small" / "latest"
        ending = replace(ending, answer=metrics_of(latest_run) if ending.code == 0 else None)
        what = verdict(ending, replace(undisturbed, answer=shop.metrics))
        figures.count(f"the same command after {number.name}", what if ending.code == 0 else LOST, ending)
    for command in (
        ("dig.recommend", f"run={shop.run}", f"user={shop.users[0]}"),
        ("dig.compare", f"{shop.run}"),
        ("dig.data", "inspect", f"{shop.settings}"),
        ("dig.cache", "list"),
    ):
        _others(figures, command, workshop, rng)
    return figures


def _others(figures: Figures, command: Command, workshop: Workshop, rng: random.Random) -> None:
    """The commands that take seconds, early and somewhat later."""
    place = workshop.place("stopped")
    for _ in range(2 if workshop.small else 5):
        number = rng.choice((signal.SIGTERM, signal.SIGINT))
        moment = rng.choice((rng.uniform(0.02, _EARLY), rng.uniform(_EARLY, 4.0)))
        ending = _stop(command, place, number, moment)
        if ending is not None:
            what = stop_verdict(ending, _CODES[number], _END)
            figures.count(f"SIGTERM or SIGINT: {command[0]}", what, ending, f"{number.name} after {moment:.2f} s")


def _stop(command: Command, place: Path, number: signal.Signals, moment: float) -> Ending | None:
    """Sends a signal to a command after a time; its seconds count from there. None where it had ended before."""
    process = start(command, place, place / "home", fresh=True)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        began = time.monotonic()
        os.kill(process.pid, number)
        return finish(process, command, 3 * _END, began)
    finish(process, command, 30.0)
    return None
