"""Lets training go on with other ranks, or another batch size, than a checkpoint was written with."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from dig.engine.console import say

__all__ = ["OtherRanks", "rescale"]

_KEY = "dig_samples_a_batch"
_COUNTED = ("batch_progress", "scheduler_progress", "automatic_optimization.optim_progress")


class OtherRanks(Callback):
    """Notes in checkpoints how many samples a batch of all ranks holds, and goes on accordingly.

    Weights and the optimiser's state do not know of ranks. Where the batch of all ranks together is as large as it
    was, neither does the order of the data (:class:`~datamodules.loading.EpochBatchSampler`), and training goes on
    exactly there. Else its progress is counted in samples: the epoch goes on at the same share of its data, and the
    schedule of the learning rate at the same share of its steps.

    Args:
        stage: the stage's name, for the line that says so.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._samples: int | None = None

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Notes samples and ranks."""
        samples = self._of_all_ranks(trainer)
        if samples is not None:
            checkpoint[_KEY] = {"samples": samples, "ranks": trainer.world_size}

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Rewrites what the checkpoint counts in batches, before Lightning's loops read it."""
        before = checkpoint.get(_KEY)
        now = self._of_all_ranks(trainer)
        if before is None or now is None:
            return
        if before["samples"] != now:
            rescale(checkpoint, before["samples"] / now)
        if trainer.is_global_zero and (before["samples"], before["ranks"]) != (now, trainer.world_size):
            order = "the order of the data stays" if before["samples"] == now else "the order of the data changes"
            say(
                f"{self.stage}: the checkpoint is of {before['ranks']} ranks with {before['samples']} samples a batch "
                f"of all, here are {trainer.world_size} with {now}; {order}"
            )

    def _of_all_ranks(self, trainer: lightning.Trainer) -> int | None:
        """Samples that all ranks together see at a batch; None where the loader does not tell."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if self._samples is None and data is not None:
            own = getattr(data.train_dataloader(), "samples_per_batch", None)
            self._samples = None if own is None else own * trainer.world_size
        return self._samples


def rescale(checkpoint: dict[str, Any], ratio: float) -> None:
    """Multiplies what a checkpoint counts in batches and steps, rounded down, in place.

    Args:
        checkpoint: of Lightning.
        ratio: samples of a batch then over samples of a batch now.
    """
    loops = checkpoint["loops"]["fit_loop"]
    state = loops["epoch_loop.state_dict"]
    state["_batches_that_stepped"] = int(state["_batches_that_stepped"] * ratio)
    for name in _COUNTED:
        loops[f"epoch_loop.{name}"] = _scaled(loops[f"epoch_loop.{name}"], ratio)
    for loader in loops["state_dict"].get("combined_loader", []):
        loader["position"] = loops["epoch_loop.batch_progress"]["current"]["ready"]
    for schedule in checkpoint["lr_schedulers"]:
        schedule["last_epoch"] = int(schedule["last_epoch"] * ratio)
        schedule["_step_count"] = schedule["last_epoch"] + 1


def _scaled(counts: Any, ratio: float) -> Any:
    if isinstance(counts, dict):
        return {key: _scaled(value, ratio) for key, value in counts.items()}
    return counts if isinstance(counts, bool) or not isinstance(counts, int) else int(counts * ratio)
