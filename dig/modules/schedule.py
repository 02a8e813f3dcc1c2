"""How many steps a learning-rate schedule has."""

from __future__ import annotations

from typing import Any

__all__ = ["scheduled_steps"]


def scheduled_steps(trainer: Any) -> int:
    """Optimiser steps of a training.

    Counted from the data: to ask the trainer would set its loaders up before a checkpoint's position is restored.
    """
    batches = len(trainer.datamodule.train_dataloader())
    steps = -(-batches // trainer.accumulate_grad_batches) * int(trainer.max_epochs or 1)
    return min(steps, trainer.max_steps) if trainer.max_steps > 0 else steps
