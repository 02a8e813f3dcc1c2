"""The trials of a sweep as tables: in the terminal, as CSV and as Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from optuna.trial import FrozenTrial, TrialState
from rich.markup import escape
from rich.table import Table

from dig.engine.artifacts import atomic_path
from dig.engine.console import spreadsheet_cell
from dig.report.formats import DASH, duration
from dig.sweeps.settings import Settings
from dig.sweeps.space import Point

__all__ = ["TrialRow", "table_of_trials", "trial_rows", "write_tables"]

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
        shown = [_shown(row.point.get(name)) for name in settings.space.names]
        value = DASH if row.value is None else f"{row.value:.4f}"
        cells = (str(row.number), *shown, value, str(row.validations), duration(row.seconds), row.state)
        table.add_row(*map(escape, cells))
    return table


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
    return value if numbers or value is None else _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.5g}"
    return json.dumps(value)
