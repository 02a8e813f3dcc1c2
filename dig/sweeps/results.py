"""The trials of a sweep as tables: in the terminal, as CSV and Parquet, and of a dry run."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
import polars as pl
from optuna.trial import FrozenTrial, TrialState
from rich.markup import escape
from rich.table import Table

from datamodules.fetching import missing_files
from dig.config import UserError
from dig.engine.artifacts import ArtifactStore, atomic_path
from dig.engine.console import console, say, spreadsheet_cell, warn
from dig.engine.pipeline import stage_keys
from dig.report.formats import DASH, duration
from dig.sweeps.settings import Settings, shown_point
from dig.sweeps.space import Point
from dig.sweeps.trials import sampler_for

__all__ = ["TrialRow", "label", "table_of_trials", "trial_rows", "write_tables", "preview", "stage_counts"]


_STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class TrialRow:
    """A trial.

    Attributes:
        number: from 1.
        point: what varied, as the configuration had it.
        value: the metric; of one stopped early the best that it reported.
        seconds: of its last run; what came from the cache cost none.
        state: done, stopped early, failed, running or waiting.
        validations: how many there were.
        reason: why it failed.
        history: what the validations found.
    """

    number: int
    point: Point
    value: float | None
    seconds: float | None
    state: str
    validations: int
    reason: str = ""
    history: Sequence[float] = field(default=())


def trial_rows(settings: Settings, trials: Sequence[FrozenTrial]) -> list[TrialRow]:
    """Trials, the best first: those that are done, then those stopped early, then the rest."""
    rows = [_row(settings, trial) for trial in trials]
    order = list(_STATES.values())
    sign = -1.0 if settings.metric.maximize else 1.0
    return sorted(rows, key=lambda row: (order.index(row.state), sign * (row.value or 0.0), row.number))


def table_of_trials(settings: Settings, rows: Sequence[TrialRow]) -> Table:
    """The table of the terminal."""
    table = Table(title=f"{settings.file.name} · {settings.metric.stage}: {settings.metric.name}", title_justify="left")
    for heading in ("trial", *_short(settings.space.names)):
        table.add_column(heading, overflow="fold")
    for heading in (settings.metric.name, "validations", "took"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    for row in rows:
        shown = [label(row.point.get(name)) for name in settings.space.names]
        value = DASH if row.value is None else f"{row.value:.4f}"
        cells = (str(row.number), *shown, value, str(row.validations), duration(row.seconds), row.state)
        table.add_row(*map(escape, cells))
    return table


def label(value: Any) -> str:
    """A value of a parameter as it is written."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.5g}"
    return json.dumps(value)


def write_tables(settings: Settings, trials: Sequence[FrozenTrial]) -> None:
    """``trials.csv``, safe to open in a spreadsheet, and ``trials.parquet``, both whole at any time."""
    rows = trial_rows(settings, trials)
    records = [
        {"trial": row.number}
        | {name: _cell(settings, name, row.point.get(name)) for name in settings.space.names}
        | {
            settings.metric.name: row.value,
            "validations": row.validations,
            "seconds": row.seconds,
            "state": row.state,
            "reason": row.reason,
        }
        for row in rows
    ]
    schema = {"trial": pl.Int64, settings.metric.name: pl.Float64, "seconds": pl.Float64}
    frame = pl.DataFrame(records, infer_schema_length=None, strict=False, schema_overrides=schema)
    with atomic_path(settings.folder / "trials.csv") as temporary:
        texts = [name for name, kind in frame.schema.items() if kind == pl.String]
        frame.with_columns(pl.col(texts).map_elements(spreadsheet_cell, return_dtype=pl.String)).write_csv(temporary)
    with atomic_path(settings.folder / "trials.parquet") as temporary:
        frame.write_parquet(temporary)


def _row(settings: Settings, trial: FrozenTrial) -> TrialRow:
    history = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    value = trial.value if trial.state == TrialState.COMPLETE else None
    if trial.state == TrialState.PRUNED and history:
        value = max(history) if settings.metric.maximize else min(history)
    notes = trial.user_attrs
    return TrialRow(
        trial.number + 1,
        notes.get("point", {}),
        value,
        notes.get("seconds"),
        _STATES[trial.state],
        len(history),
        notes.get("reason", ""),
        history,
    )


def _short(names: Sequence[str]) -> list[str]:
    """The last part of each key, where that tells them apart."""
    leaves = [name.rpartition(".")[2] for name in names]
    return [leaf if leaves.count(leaf) == 1 else name for leaf, name in zip(leaves, names, strict=True)]


def _cell(settings: Settings, name: str, value: Any) -> Any:
    """A value of a column: numbers where all of it are numbers, else text."""
    parameter = next(each for each in settings.space.varied if each.name == name)
    numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in parameter.values)
    return value if numbers or value is None else label(value)


# What a sweep would run: its trials, the stages that they share, and how often each has to be computed.


_SHOWN = 50
_COUNTED = 50
"""Trials whose stages are counted; each takes a tenth of a second."""


def preview(settings: Settings) -> None:
    """Prints the dry run."""
    points = _points(settings)
    remark = "" if settings.file.method != "bayes" else " (as far as they do not depend on results)"
    table = Table(title=f"{settings.file.name}: {len(points):,} trials{remark}", title_justify="left")
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
    """The fingerprints of each stage over all points, one a point; a point that is not a configuration is told."""
    fingerprints: dict[str, list[str]] = defaultdict(list)
    for point in points:
        try:
            keys = stage_keys(settings.config(point))
        except UserError as error:
            warn(f"{shown_point(point)} would fail: {error}")
            continue
        for stage, key in keys.items():
            fingerprints[stage].append(key)
    return dict(fingerprints)


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
