"""Saves training when the process is told to end, on all ranks at the same step."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from callbacks.resume import ResumeCheckpoint
from dig.engine.signals import Preempted, current_watch

__all__ = ["Preemption"]


class Preemption(Callback):
    """Ends training at the next batch's end after which a checkpoint restores everything.

    A signal may have reached one rank alone, so ranks ask each other at every batch's end. Outside of training a signal
    ends the process at once, since artifacts and caches keep what was done. Validation within training is not saved:
    where it lasts longer than the grace after a signal, the last checkpoint is what training goes on from.

    Args:
        stage: the stage's name.
        resume: saves; None where nothing is trained. It has to come before this in the order of callbacks.
    """

    def __init__(self, stage: str = "", resume: ResumeCheckpoint | None = None) -> None:
        self.stage = stage
        self.resume = resume

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """From here on a signal waits for a batch's end."""
        watch = current_watch()
        if watch is not None:
            watch.take_over()
            watch.hold()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and leaves when any rank was told to end."""
        watch = current_watch()
        if watch is None or self.resume is None or not _any_rank(trainer, watch.name is not None):
            return
        if not watch.save(partial(self.resume.save_now, trainer, batch_idx)):
            return
        name = watch.name or "a signal to another rank"
        raise Preempted(f"{self.stage}: saved at step {trainer.global_step} ({name})")

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Too late to save: what comes now is quick or begins anew."""
        watch = current_watch()
        if watch is not None:
            watch.release()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Training is over."""
        watch = current_watch()
        if watch is not None:
            watch.release(raising=False)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes the signals back from Lightning."""
        _take_over()

    def on_test_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes the signals back from Lightning."""
        _take_over()

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes the signals back from Lightning."""
        _take_over()


def _take_over() -> None:
    watch = current_watch()
    if watch is not None:
        watch.take_over()


def _any_rank(trainer: lightning.Trainer, told: bool) -> bool:
    """Whether any rank was told to end; all ranks ask at once and hear the same."""
    if trainer.world_size == 1:
        return told
    found = torch.tensor(float(told), device=trainer.strategy.root_device)
    return bool(trainer.strategy.reduce(found, reduce_op="max") > 0)
