"""Two processes on the same home, run, table or sweep at once: both end, and the answers are those of one alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from faults.commands import Command, finish, start
from faults.commands import run as run_command
from faults.verdicts import LOST, Ending, Figures, verdict
from faults.workshop import Shop, Workshop, copied, metrics_of

__all__ = ["run"]

_LIMIT = 400.0
_SWEEP = """program: dig.train
method: grid
metric: {{name: valid/ndcg@10, goal: maximize}}
parameters: {{rqvae.epochs: {{values: [2, 3]}}, grpo.kl_weight: {{values: [0.001, 0.01]}}}}
command: ["${{env}}", python, -m, dig.train, "experiment={settings}", "${{args_no_hyphens}}"]
"""


def run(workshop: Workshop) -> Figures:
    """Starts two commands at once, and looks at how both end and at what is there afterwards."""
    figures = Figures("two", "two processes at once")
    shop = workshop.shop
    for told, commands, full, times in _pairs(shop, workshop.small):
        for number in range(times):
            place = workshop.place("two")
            if full:
                copied(shop.home, place / "home")
                copied(shop.run.parent, place / "runs" / "small")
                (place / "users.txt").write_text("".join(f"{user}\n" for user in shop.users), encoding="utf-8")
            (place / "sweep.yaml").write_text(_SWEEP.format(settings=shop.settings), encoding="utf-8")
            for folder in ("docs/results", "experiments"):  # what a project has
                (place / folder).mkdir(parents=True)
            shutil.copy(shop.settings, place / "experiments")
            endings = _together(commands, place, delay=0.7 * number)
            for ending in endings:
                figures.count(told, verdict(ending), ending)
            _look(figures, told, commands, place, shop, endings)
    return figures


def _pairs(shop: Shop, small: bool) -> list[tuple[str, Sequence[Command], bool, int]]:
    """What is done, both commands, whether all stages are finished before, and how often, each later than before."""
    train = shop.train
    recommend = ("dig.recommend", "run=runs/small/latest", "users=users.txt", "out=answers.csv")
    compare = ("dig.compare", "runs/small/latest", "--format", "csv", "--out", "table.csv", "--draws", "200")
    prune = ("dig.cache", "prune", "--yes", "--unrecorded", "--interrupted")
    times = 1 if small else 2
    return [
        ("dig.train twice, from nothing", (train, train), False, 2 if not small else 1),
        ("dig.train twice, all finished", (train, train), True, times),
        ("dig.train beside dig.recommend", (train, recommend), True, times),
        ("dig.train beside dig.compare", (train, compare), True, times),
        ("dig.recommend twice, one table", (recommend, recommend), True, times),
        ("dig.compare twice, one table", (compare, compare), True, times),
        ("dig.cache prune beside dig.train, from nothing", (train, prune), False, 2 if not small else 1),
        ("dig.cache prune beside dig.train, all finished", (train, prune), True, times),
        (
            "dig.data convert twice, one folder",
            (("dig.data", "convert", str(shop.settings), "--out", "tables", "--overwrite"),) * 2,
            True,
            times,
        ),
        (
            "scripts.results add twice, one name",
            (("scripts.results", "add", "runs/small/latest", "--as", "x"),) * 2,
            True,
            times,
        ),
        ("dig.sweep twice, one sweep", (("dig.sweep", "sweep.yaml"),) * 2, True, 1),
    ]


def _together(commands: Sequence[Command], place: Path, delay: float) -> list[Ending]:
    started = []
    for command in commands:
        started.append((start(command, place, place / "home"), command, time.monotonic()))
        time.sleep(delay)
    return [finish(process, command, _LIMIT, began) for process, command, began in started]


def _look(
    figures: Figures, told: str, commands: Sequence[Command], place: Path, shop: Shop, endings: Sequence[Ending]
) -> None:
    """What is there afterwards: the metrics of one run alone, tables that can be read."""
    latest = place / "runs" / "small" / "latest"
    if shop.train in commands:
        again = run_command(shop.train, place, place / "home", _LIMIT)
        again = replace(again, answer=metrics_of(latest) if again.code == 0 else None)
        what = verdict(again, replace(again, code=0, answer=shop.metrics))
        figures.count(f"{told}: the same command once more", LOST if again.code else what, again)
    for table in ("answers.csv", "table.csv"):
        if any(table in word for command in commands for word in command):
            try:
                rows = len(pl.read_csv(place / table))
            except (OSError, pl.exceptions.PolarsError):
                rows = 0
            if not rows:
                figures.count(f"{told}: {table}", LOST, endings[0], "the table cannot be read")
    left = [path.name for path in place.rglob("*.tmp")]
    if left:
        figures.remarks.append(f"{told}: temporary files stayed: {', '.join(left[:3])}")
