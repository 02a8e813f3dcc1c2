"""Lightning's logger over a W&B run that is already open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from dig.tracking.agent import PLAIN
from dig.tracking.connection import Connection
from dig.tracking.mend import last_step, rows_since

__all__ = ["STEP", "StageLogger"]

STEP = "trainer/global_step"


class StageLogger(WandbLogger):
    """Logs a stage's metrics over optimiser steps; a failure of W&B does not reach the training.

    Args:
        connection: the open run.
        prefix: put before every name, with a slash; for stages that share a run. Names that begin with `valid/` are
            then logged as they are, too.
    """

    def __init__(self, connection: Connection, prefix: str = "") -> None:
        super().__init__(experiment=connection.run, project=connection.run.project or "dig")
        self.connection = connection
        self.before = f"{prefix}/" if prefix else ""
        step = self.before + STEP
        connection.attempt("a metric's axis", lambda run: run.define_metric(step))
        connection.attempt(
            "a metric's axis", lambda run: run.define_metric(f"{self.before}*", step_metric=step, step_sync=True)
        )

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """A step of the history."""
        values = {self.before + name: value for name, value in metrics.items()}
        if self.before:
            values |= {name: value for name, value in metrics.items() if name.startswith(PLAIN)}
        if step is not None:
            values[self.before + STEP] = step
        self.connection.log(values)

    def catch_up(self, folder: Path, logs: Path) -> None:
        """Logs what was measured and W&B has not seen: before a kill, or while W&B could not be opened.

        Args:
            folder: that holds the folders of W&B runs.
            logs: of the stage, a folder an attempt.
        """
        if not logs.is_dir():
            return
        run = self.connection.run
        known = run.summary.get(self.before + STEP)  # online, the server's
        last = max(last_step(folder, str(run.id), self.before + STEP), int(known) if known is not None else -1)
        for step, row in rows_since(logs, last):
            self.log_metrics(row, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Nothing: the whole configuration is there already."""
