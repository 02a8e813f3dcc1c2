"""Lightning's logger over a W&B run that is already open, and what a stage trains with in effect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger

from dig.config import RECOMMENDERS, Config
from dig.tracking.connection import PLAIN, Connection
from dig.tracking.records import last_step, rows_since

__all__ = ["STEP", "StageLogger", "EffectiveValues", "samples_a_rank"]


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
        server_step = run.summary.get(self.before + STEP)  # online, the server's
        last = max(
            last_step(folder, str(run.id), self.before + STEP), int(server_step) if server_step is not None else -1
        )
        for step, row in rows_since(logs, last):
            self.log_metrics(row, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Nothing: the whole configuration is there already."""


# What a stage trains with in effect, on all processes together.


class EffectiveValues(Callback):
    """Adds to a W&B run's configuration what follows from configuration and machine together.

    Args:
        connection: the open run.
        config: the experiment.
        stage: the stage.
    """

    def __init__(self, connection: Connection, config: Config, stage: str) -> None:
        self.connection = connection
        self.config = config
        self.stage = stage

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Adds `effective.<stage>`: processes, samples an optimiser step of all of them, highest learning rates."""
        samples = samples_a_rank(self.config, self.stage)
        accumulate = trainer.accumulate_grad_batches
        rates = [
            float(group.get("initial_lr", group["lr"]))
            for optimizer in trainer.optimizers
            for group in optimizer.param_groups
        ]
        values = {
            "world_size": trainer.world_size,
            "nodes": trainer.num_nodes,
            "accumulate": accumulate,
            "batch_size": None if samples is None else samples * trainer.world_size * accumulate,
            "learning_rate": max(rates, default=None),
            "precision": str(trainer.precision),
            "strategy": type(trainer.strategy).__name__,
            "accelerator": type(trainer.accelerator).__name__,
            "parameters": sum(each.numel() for each in pl_module.parameters() if each.requires_grad),
        }
        self.connection.configure({f"effective.{self.stage}": values})


def samples_a_rank(config: Config, stage: str) -> int | None:
    """Samples of one process and one optimiser step before any are summed; for GRPO prompts. None for other stages."""
    sizes = {"adapt": config.visual.adapt.batch_size, "tokenize": config.rqvae.batch_size}
    return RECOMMENDERS[stage].batch_size(config) if stage in RECOMMENDERS else sizes.get(stage)
