"""Stops training at the first loss or gradient that is no number, before it reaches the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from dig.config import UserError

__all__ = ["FiniteGuard"]

_SHOWN = 8  # samples that are named


class FiniteGuard(Callback):
    """Raises with the batch's identity and the last good checkpoint.

    Under a scaled loss (``16-mixed``) gradients overflow now and then by design, so only the loss is looked at.

    Args:
        stage: the stage's name.
        checkpoint: where the checkpoints to resume from lie.
    """

    def __init__(self, stage: str, checkpoint: Path) -> None:
        self.stage = stage
        self.checkpoint = checkpoint
        self._batch: Any = None
        self._number = 0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remembers the batch."""
        self._batch, self._number = batch, batch_idx

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        """Looks at the loss."""
        if not torch.isfinite(loss):
            self._stop(trainer, f"the loss is {loss.item()}")

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Looks at the gradients."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            self._stop(trainer, f"the gradient's norm is {norm.item()}")
        pl_module.log("train/gradient_norm", norm)

    def _stop(self, trainer: lightning.Trainer, what: str) -> None:
        saved = f"the last good checkpoint is {self.checkpoint}" if self.checkpoint.is_file() else "no checkpoint yet"
        raise UserError(
            f"{self.stage}: {what} at step {trainer.global_step} (epoch {trainer.current_epoch + 1}, batch "
            f"{self._number + 1}{self._samples()}); {saved}. A smaller {self.stage}.learning_rate or "
            f"{self.stage}.clip_norm, or trainer.precision=32-true, is the usual cure"
        )

    def _samples(self) -> str:
        numbers = getattr(self._batch, "samples", None)
        if not isinstance(numbers, Tensor):
            return ""
        shown = ", ".join(str(number) for number in numbers[:_SHOWN].tolist())
        more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
        return f" with the samples {shown}{more}"
