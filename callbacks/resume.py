"""Checkpoints to resume from, and what makes a resumed run equal an undisturbed one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

__all__ = ["AtomicCheckpointIO", "ResumeCheckpoint", "StepSeed", "configuration_in", "differing_key"]

_CONFIGURATION = "dig_configuration"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final name, flushes and renames it: a kill leaves the old one or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Saves atomically."""
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)


class ResumeCheckpoint(Callback):
    """Saves everything that training needs to go on, at least every ``every`` optimiser steps.

    Not on the last batch before a validation or the end of an epoch, nor between batches whose gradients are summed:
    Lightning restores such states only in part, so the save waits for a later batch.

    Args:
        path: the file, replaced by each save.
        every: optimiser steps.
        configuration: stored with the checkpoint, so that another configuration's is recognised.
    """

    def __init__(self, path: Path, every: int, configuration: dict[str, Any]) -> None:
        self.path = path
        self.every = every
        self.configuration = configuration
        self._saved_at = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Counts from where training starts."""
        self._saved_at = trainer.global_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when it is time."""
        if trainer.global_step - self._saved_at >= self.every:
            self.save_now(trainer, batch_idx)

    def save_now(self, trainer: lightning.Trainer, batch_idx: int) -> bool:
        """Saves at the end of a batch, unless that was done or would lose something; whether it is saved."""
        if not _restores_whole(trainer, batch_idx):
            return False
        if self._saved_at != trainer.global_step:
            self._saved_at = trainer.global_step
            trainer.save_checkpoint(self.path)
        return True

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the configuration."""
        checkpoint[_CONFIGURATION] = self.configuration


def _restores_whole(trainer: lightning.Trainer, batch_idx: int) -> bool:
    """Whether a checkpoint after this batch would lose nothing."""
    # Without a number of epochs between validations, Lightning counts their interval across epochs.
    counted = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
    every = trainer.val_check_batch
    validates = isinstance(every, int) and (counted + 1) % every == 0
    accumulates = (batch_idx + 1) % trainer.accumulate_grad_batches != 0
    return not (trainer.is_last_batch or validates or accumulates)


class StepSeed(Callback):
    """Seeds the global generators by (seed, step, batch) before every batch.

    Dropout and rollouts at a step are then the same whether the run was interrupted before or not, and no generator
    state has to be stored. Batches whose gradients are summed differ, and so do ranks.

    Args:
        seed: the experiment's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seeds."""
        part = batch_idx % trainer.accumulate_grad_batches
        torch.manual_seed(((self.seed * 1_000_003 + trainer.global_step) * 4099 + trainer.global_rank) * 1009 + part)


def configuration_in(path: Path) -> dict[str, Any] | None:
    """The configuration stored in a checkpoint; None if it has none.

    Raises:
        OSError, RuntimeError, ValueError, EOFError or pickle.UnpicklingError: if the file is no readable checkpoint.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return checkpoint.get(_CONFIGURATION)


def differing_key(ours: Any, theirs: Any, prefix: str = "") -> str | None:
    """``key: theirs -> ours`` for the first key at which two configurations differ, else None."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            found = differing_key(ours.get(key), theirs.get(key), f"{prefix}.{key}" if prefix else str(key))
            if found:
                return found
        return None
    return None if ours == theirs else f"{prefix} is {theirs!r} there and {ours!r} here"
