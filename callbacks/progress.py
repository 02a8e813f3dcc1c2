"""What a training shows while it runs: its bar, and how often it logs."""

from __future__ import annotations

import math
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, RichProgressBar

from dig.engine.console import progress_enabled

__all__ = ["Bar", "EncodingBar", "LogOften"]

_LEAST_LINES = 10


class Bar(RichProgressBar):
    """Lightning's bar with the loss and the metric that chooses, without the logger's version."""

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        """What stands behind the bar."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class EncodingBar(Bar):
    """The bar of an encoding."""

    @classmethod
    def wanted(cls) -> list[Callback]:
        """The bar, where bars are wanted."""
        return [cls()] if progress_enabled() else []


class LogOften(Callback):
    """Logs a training of few steps more often than ``trainer.log_every_n_steps``: it leaves ten lines, not none."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Looks at how many batches there will be."""
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else math.inf
        steps = trainer.num_training_batches * epochs / trainer.accumulate_grad_batches
        if trainer.max_steps > 0:
            a_batch = getattr(pl_module, "updates_per_rollout", 1) * getattr(pl_module, "minibatches", 1)
            steps = min(steps, math.ceil(trainer.max_steps / a_batch))
        if math.isfinite(steps):
            # a connector of Lightning's sets the attribute, so that its class does not declare it
            every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
            trainer.log_every_n_steps = max(1, min(every, int(steps) // _LEAST_LINES))  # type: ignore[attr-defined]
