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

    Not on the last batch before a validation or the end of an epoch: Lightning restores the state between those two
    steps only in part, so the save waits for the next batch.

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
        every = trainer.val_check_batch
        at_boundary = trainer.is_last_batch or (isinstance(every, int) and (batch_idx + 1) % every == 0)
        if trainer.global_step - self._saved_at >= self.every and not at_boundary:
            self._saved_at = trainer.global_step
            trainer.save_checkpoint(self.path)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the configuration."""
        checkpoint[_CONFIGURATION] = self.configuration


class StepSeed(Callback):
    """Seeds the global generators by (seed, step) before every batch.

    Dropout and rollouts at a step are then the same whether the run was interrupted before or not, and no generator
    state has to be stored. Ranks differ.

    Args:
        seed: the experiment's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seeds."""
        torch.manual_seed((self.seed * 1_000_003 + trainer.global_step) * 4099 + trainer.global_rank)


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
