"""What a sweep would run: its trials, the stages that they share, and how often each has to be computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import optuna
from rich.markup import escape
from rich.table import Table

from datamodules.fetching import missing_files
from dig.config import UserError
from dig.engine.artifacts import ArtifactStore
from dig.engine.console import console, say, warn
from dig.engine.pipeline import stage_keys
from dig.sweeps.ledger import sampler_for
from dig.sweeps.settings import Settings, shown_point
from dig.sweeps.space import Point

__all__ = ["preview", "stage_counts"]

_SHOWN = 50
_COUNTED = 50
"""Trials whose stages are counted; each takes a tenth of a second."""


def preview(settings: Settings) -> None:
    """Prints the dry run."""
    points = _points(settings)
    known = "" if settings.file.method != "bayes" else " (as far as they do not depend on results)"
    table = Table(title=f"{settings.file.name}: {len(points):,} trials{known}", title_justify="left")
    for heading in ("trial", *settings.space.names):
        table.add_column(heading, overflow="fold")
    for number, point in enumerate(points[:_SHOWN], start=1):
        table.add_row(str(number), *(escape(_one(name, point)) for name in settings.space.names))
    console.print(table)
    if len(points) > _SHOWN:
        say(f"and {len(points) - _SHOWN:,} more")
    goal = "more" if settings.metric.maximize else "less"
    metric, stages = settings.metric, ",".join(settings.stages)
    say(f"looks at {metric.name} of {metric.stage}, {goal} is better; stages=[{stages}]")
    missing = missing_files(settings.base.data)
    if missing:
        say(f"stages are not counted before the data are there: {', '.join(str(path) for path in missing)}")
    else:
        if len(points) > _COUNTED:
            say(f"stages are counted over the first {_COUNTED:,} trials")
        console.print(_stages(settings, points[:_COUNTED]))
    say(f"folder: {settings.folder}")


def stage_counts(settings: Settings, points: Sequence[Point]) -> dict[str, list[str]]:
    """The fingerprints of each stage over all points, one a point; a point that is no configuration is told."""
    found: dict[str, list[str]] = defaultdict(list)
    for point in points:
        try:
            keys = stage_keys(settings.config(point))
        except UserError as error:
            warn(f"{shown_point(point)} would fail: {error}")
            continue
        for stage, key in keys.items():
            found[stage].append(key)
    return dict(found)


def _stages(settings: Settings, points: Sequence[Point]) -> Table:
    store = ArtifactStore()
    table = Table(
        title="what is computed; the order of trials does not matter, since each stage is cached", title_justify="left"
    )
    table.add_column("stage")
    for heading in ("trials that need it", "different", "cached", "to compute"):
        table.add_column(heading, justify="right")
    for stage, keys in stage_counts(settings, points).items():
        cached = sum(store.exists(stage, key) for key in set(keys))
        table.add_row(stage, *(f"{each:,}" for each in (len(keys), len(set(keys)), cached, len(set(keys)) - cached)))
    return table


def _points(settings: Settings) -> list[Point]:
    """The trials: all of a grid, those that chance gives, or the first ones of a search that learns."""
    if settings.file.method == "grid":
        return settings.space.grid(settings.limit)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    points = []
    for number in range(settings.limit or 0):
        study.sampler = sampler_for(settings, number)
        points.append(settings.space.draw(study.ask()))
    return points


def _one(name: str, point: Point) -> str:
    return shown_point({name: point[name]}).partition("=")[2]
