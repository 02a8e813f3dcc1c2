"""Stops training at the first loss or gradient that is no number, before it reaches the weights, on all ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.distributed.tensor import DTensor

from dig.config import UserError
from dig.config.load import schema_keys

__all__ = ["FiniteGuard"]

_SHOWN = 8  # samples that are named
_SECTIONS = {"tokenize": "rqvae", "adapt": "visual.adapt"}  # where a section is not named as its stage


def _keys(stage: str) -> list[str]:
    """The keys of a stage that bound its steps, as far as it has them."""
    section, known = _SECTIONS.get(stage, stage), set(schema_keys())
    return [key for key in (f"{section}.learning_rate", f"{section}.clip_norm") if key in known]


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
        self._loss: float | None = None
        self._number = 0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remembers the batch."""
        self._batch, self._number = batch, batch_idx
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._loss = None

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        """Looks at the loss; of several ranks none stops alone, since the others would wait for it in vain."""
        if torch.isfinite(loss):
            return
        self._loss = loss.item()
        if trainer.world_size == 1:
            self._stop(trainer, [self._story()])

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Looks at the gradients, which all ranks share by now."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            if trainer.world_size > 1:
                self._compare_losses(trainer, pl_module)
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return
        norm = torch.nn.utils.get_total_norm(gradients)
        if isinstance(norm, DTensor):  # each rank holds a part of the weights
            norm = norm.full_tensor()
        if not torch.isfinite(norm):
            self._stop(trainer, self._stories(trainer) or [f"the gradient's norm is {norm.item()}{self._samples()}"])
        pl_module.log("train/gradient_norm", norm)

    def _compare_losses(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Under a scaled loss gradients tell nothing, so the ranks ask each other."""
        broken = torch.tensor(float(self._loss is not None), device=pl_module.device)
        if trainer.strategy.reduce(broken, reduce_op="sum") > 0:
            self._stop(trainer, self._stories(trainer))

    def _stories(self, trainer: lightning.Trainer) -> list[str]:
        """What the ranks with a broken loss tell; to be called on all of them."""
        own = self._story() if self._loss is not None else ""
        if trainer.world_size == 1:
            return [own] if own else []
        found: list[str] = [""] * trainer.world_size
        torch.distributed.all_gather_object(found, own)
        return [f"on rank {rank} {story}" for rank, story in enumerate(found) if story]

    def _story(self) -> str:
        return f"the loss is {self._loss}{self._samples()}"

    def _stop(self, trainer: lightning.Trainer, stories: list[str]) -> None:
        cures = [f"a smaller {' or '.join(keys)}"] if (keys := _keys(self.stage)) else []
        if trainer.precision != "32-true":
            cures.append("trainer.precision=32-true")
        saved = f"the last good checkpoint is {self.checkpoint}" if self.checkpoint.is_file() else "no checkpoint yet"
        raise UserError(
            f"{self.stage}: {'; '.join(stories)} at step {trainer.global_step} (epoch {trainer.current_epoch + 1}, "
            f"batch {self._number + 1}); {saved}. The usual cure: {', or '.join(cures) or 'other data'}"
        )

    def _samples(self) -> str:
        numbers = getattr(self._batch, "samples", None)
        if not isinstance(numbers, Tensor):
            return ""
        shown = ", ".join(str(number) for number in numbers[:_SHOWN].tolist())
        more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
        return f" for the samples {shown}{more}"
