"""Training throughput, logged and said at the end."""

from __future__ import annotations

import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

__all__ = ["Throughput"]


class Throughput(Callback):
    """Samples a second over all ranks, validation and the first batch left out.

    Logged as ``train/samples_per_second`` at every epoch's end.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._samples = 0
        self._started: float | None = None

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts the clock, but not for the batch that pays for warming up."""
        self._started = time.perf_counter() if trainer.global_step > 0 else None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops it."""
        if self._started is not None:
            self._seconds += time.perf_counter() - self._started
            self._samples += len(_rows(batch)) * trainer.world_size

    @property
    def samples_per_second(self) -> float | None:
        """The rate so far; None before it is known."""
        return self._samples / self._seconds if self._seconds else None

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Logs the rate."""
        if self.samples_per_second is not None:
            pl_module.log("train/samples_per_second", self.samples_per_second)


def _rows(batch: Any) -> Any:
    """What there is one of for every sample."""
    for name in ("samples", "input_ids"):
        if hasattr(batch, name):
            return getattr(batch, name)
    return batch
