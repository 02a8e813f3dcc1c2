"""The catalogue's item vectors in batches, for RQVAEModule, each item with a random co-purchased partner on demand."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.loading import EpochBatchSampler, ResumableLoader
from dig.quantization import ItemFeatures

__all__ = ["ItemBatch", "ItemDataModule", "Partners"]


class ItemBatch(NamedTuple):
    """Items of one step."""

    features: ItemFeatures
    """The items' vectors."""
    partners: ItemFeatures | None = None
    """Those of a co-purchased partner of each item."""
    has_partner: Tensor | None = None
    """``(batch,)`` bool; the partner of an item without one means nothing."""


class Partners:
    """Co-purchased items of every item, and a draw that is a pure function of (seed, epoch, item).

    So a draw depends neither on the number of ranks nor on where an epoch was interrupted.

    Args:
        left: ``(pairs,)`` item rows.
        right: ``(pairs,)`` item rows; pairs count both ways.
        items: size of the catalogue.
        seed: seed of the draws.
    """

    def __init__(self, left: np.ndarray, right: np.ndarray, items: int, seed: int) -> None:
        owners, others = np.concatenate([left, right]), np.concatenate([right, left])
        order = np.argsort(owners, kind="stable")
        self._others = others[order]
        self._starts = np.searchsorted(owners[order], np.arange(items + 1))
        self._seed = seed

    def draw(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        """``(batch,)`` a partner of each item, -1 where it has none."""
        starts, counts = self._starts[rows], self._starts[rows + 1] - self._starts[rows]
        if not len(self._others):
            return np.full(len(rows), -1)
        place = starts + (_hash(rows, self._seed, epoch) % np.maximum(counts, 1).astype(np.uint64)).astype(np.int64)
        return np.where(counts > 0, self._others[np.minimum(place, len(self._others) - 1)], -1)


class ItemDataModule(LightningDataModule):
    """Batches of items, shuffled by (seed, epoch) and dealt over the ranks.

    Args:
        features: vectors of the catalogue, in its order.
        batch_size: items a step and rank.
        seed: seed of the order.
        workers: worker processes; indexing a tensor seldom needs any.
        partners: where given, every batch brings a partner for each item.
    """

    def __init__(
        self, features: ItemFeatures, batch_size: int, seed: int, workers: int = 0, partners: Partners | None = None
    ) -> None:
        super().__init__()
        self.features = features
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.partners = partners

    def train_dataloader(self) -> ResumableLoader:
        """Loader of this rank's batches."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochBatchSampler(
            self.features.items, self.batch_size, self.seed, shuffle=True, rank=rank, world_size=world_size
        )
        return ResumableLoader(_Items(self.features, self.partners, sampler), sampler, workers=self.workers)


class _Items(Dataset[ItemBatch]):
    """Items, a whole batch at a time; the sampler tells the epoch."""

    def __init__(self, features: ItemFeatures, partners: Partners | None, sampler: EpochBatchSampler) -> None:
        self.features = features
        self.partners = partners
        self.sampler = sampler

    def __len__(self) -> int:
        return self.features.items

    def __getitem__(self, indices: list[int]) -> ItemBatch:
        if self.partners is None:
            return ItemBatch(self.features.take(indices))
        drawn = torch.from_numpy(self.partners.draw(np.array(indices), self.sampler.epoch))
        return ItemBatch(self.features.take(indices), self.features.take(drawn.clamp_min(0)), drawn >= 0)


def _hash(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Well mixed 64-bit numbers (the finaliser of SplitMix64)."""
    offset = (seed * 1_000_003 + epoch) * 0x9E3779B97F4A7C15 % 2**64
    with np.errstate(over="ignore"):
        mixed = rows.astype(np.uint64) * np.uint64(0xD1342543DE82EF95) + np.uint64(offset)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))
