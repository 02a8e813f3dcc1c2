"""Guards of a training: a loss that is not a number ends it, a codebook that collapses is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor

from dig.config import UserError
from dig.config.load import schema_keys
from dig.engine.console import warn

__all__ = [
    "FiniteGuard",
    "CodebookHealth",
]


_SHOWN = 8  # samples that are named
_SECTIONS = {"tokenize": "rqvae", "adapt": "visual.adapt"}  # where a section is not named as its stage


def _keys(stage: str) -> list[str]:
    """The keys of a stage that bound its steps, as far as it has them."""
    section, keys = _SECTIONS.get(stage, stage), set(schema_keys())
    return [key for key in (f"{section}.learning_rate", f"{section}.gradient_clip_val") if key in keys]


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
        stories: list[str] = [""] * trainer.world_size
        torch.distributed.all_gather_object(stories, own)
        return [f"on rank {rank} {story}" for rank, story in enumerate(stories) if story]

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


_PREFIX = "codebook/batch_usage_"
_FALL = 0.1
"""Usage that wobbles by less is not a collapse."""
_POOR_START = 0.5
"""k-means starts with all codes in use: a first epoch below this share has lost them."""


class CodebookHealth(Callback):
    """Warns, once per level, in the epoch whose batches use too few of its codes, and fewer than they did.

    An epoch's batches hold every item, so what they use is what the catalogue uses while it learns. Where dead codes
    are restarted, a level is given the time that a restart takes, since what comes back is not a collapse. Reads
    ``codebook/batch_usage_<level>``, which RQVAEModule logs in every epoch; logs nothing itself.

    Args:
        restart_after: steps after which a dead code is restarted; 0 never.
        attainable: share of a level's codes that the catalogue could use at most, per level; fewer items than codes
            leave some free without anything being wrong.
        min_usage: share of the attainable codes under which it warns.
    """

    def __init__(
        self, restart_after: int = 0, attainable: Sequence[float] | None = None, min_usage: float = 0.8
    ) -> None:
        self.restart_after = restart_after
        self.attainable = attainable
        self.min_usage = min_usage
        self._warned: set[str] = set()
        self._best: dict[str, float] = {}
        self._since: dict[str, int] = {}  # the step before which a level was last in use
        self._start = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes where the epoch begins."""
        self._start = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares each level's usage with the threshold and with the best that it had."""
        for name, metric in trainer.callback_metrics.items():
            if not name.startswith(_PREFIX):
                continue
            level = name.removeprefix(_PREFIX)
            value, best = float(metric), self._best.get(name)
            self._best[name] = max(value, best or 0.0)
            most = self._most(level)
            falls = value <= best - _FALL if best is not None else value < _POOR_START * most
            if not (falls and value < self.min_usage * most):
                self._since.pop(name, None)
                continue
            since = self._since.setdefault(name, self._start)
            if trainer.global_step - since >= self.restart_after and name not in self._warned:
                self._warned.add(name)
                if trainer.is_global_zero:
                    warn(self._story(trainer.current_epoch + 1, level, value))

    def _most(self, level: str) -> float:
        return 1.0 if self.attainable is None else self.attainable[int(level) - 1]

    def _story(self, epoch: int, level: str, usage: float) -> str:
        return (
            f"epoch {epoch}: only {usage:.0%} of the codes of level {level} are in use (under {self.min_usage:.0%}), "
            "getting fewer; the codebook is collapsing and items will share Semantic IDs; try a smaller "
            "rqvae.codebook_size, a smaller rqvae.restart_after or a lower rqvae.learning_rate"
        )

    def state_dict(self) -> dict[str, Any]:
        """What was measured and warned of, so that a resumed run does not repeat itself."""
        return {"warned": sorted(self._warned), "best": dict(self._best), "since": dict(self._since)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what was measured and warned of."""
        self._warned, self._best = set(state_dict["warned"]), dict(state_dict["best"])
        self._since = dict(state_dict["since"])
