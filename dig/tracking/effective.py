"""What a stage trains with in effect, on all processes together."""

from __future__ import annotations

import lightning
from lightning.pytorch.callbacks import Callback

from dig.config import RECOMMENDERS, Config
from dig.tracking.connection import Connection

__all__ = ["EffectiveValues", "samples_a_rank"]


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
