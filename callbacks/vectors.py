"""Puts predicted vectors on disk while prediction goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from dig.embeddings.cache import VectorCache

__all__ = ["VectorWriter"]


class VectorWriter(BasePredictionWriter):
    """Writes the ``(keys, vectors)`` that ``predict_step`` gives, a shard at a time, on every rank.

    Args:
        cache: takes the shards.
        shard_items: vectors a shard, which is what a kill loses at most.
    """

    def __init__(self, cache: VectorCache, shard_items: int = 2048) -> None:
        super().__init__(write_interval="batch")
        self.cache = cache
        self.shard_items = shard_items
        self._keys: list[np.ndarray] = []
        self._vectors: list[torch.Tensor] = []

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: tuple[np.ndarray, torch.Tensor],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Keeps a batch's vectors, and writes once there are enough."""
        self._keys.append(prediction[0])
        self._vectors.append(prediction[1].float().cpu())
        if sum(map(len, self._keys)) >= self.shard_items:
            self._flush()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the rest."""
        self._flush()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Nothing encoded is lost to a Ctrl-C."""
        self._flush()

    def _flush(self) -> None:
        if self._keys:
            self.cache.add(np.concatenate(self._keys), torch.cat(self._vectors))
        self._keys, self._vectors = [], []
