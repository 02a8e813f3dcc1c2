"""What trainings share: AdamW, a warm-up, a cosine down to 0, and how many steps that has."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from transformers import get_cosine_schedule_with_warmup

__all__ = ["adamw_with_warmup", "scheduled_steps", "warmup_cosine"]


class _Settings(Protocol):
    """The keys of a section that the optimiser reads."""

    learning_rate: float
    weight_decay: float
    warmup_ratio: float


def adamw_with_warmup(module: Any, config: _Settings) -> dict[str, Any]:
    """What ``configure_optimizers`` of a small recommender returns: AdamW, a short warm-up, then a cosine down to 0."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    total = scheduled_steps(module.trainer)
    return warmup_cosine(optimizer, math.ceil(config.warmup_ratio * total), total)


def warmup_cosine(optimizer: torch.optim.Optimizer, warmup: int, total: int) -> dict[str, Any]:
    """An optimiser with its learning rate's way, moved at every step, as Lightning reads it.

    Args:
        optimizer: at its highest learning rate.
        warmup: steps in which the rate rises from 0.
        total: steps after which it is 0 again.
    """
    scheduler = get_cosine_schedule_with_warmup(optimizer, warmup, total)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def scheduled_steps(trainer: Any) -> int:
    """Optimiser steps of a training.

    Counted from the data: to ask the trainer would set its loaders up before a checkpoint's position is restored.
    """
    batches = len(trainer.datamodule.train_dataloader())
    steps = -(-batches // trainer.accumulate_grad_batches) * int(trainer.max_epochs or 1)
    return min(steps, trainer.max_steps) if trainer.max_steps > 0 else steps
