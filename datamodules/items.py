"""The catalogue's item vectors in batches, for RQVAEModule."""

from __future__ import annotations

from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.loading import EpochBatchSampler, ResumableLoader

__all__ = ["ItemDataModule"]


class ItemDataModule(LightningDataModule):
    """Batches ``(batch, dim)`` of item vectors, shuffled by (seed, epoch) and dealt over the ranks.

    Args:
        embeddings: ``(items, dim)``, one row an item in catalogue order.
        batch_size: items a step and rank.
        seed: seed of the order.
        workers: worker processes; indexing a tensor seldom needs any.
    """

    def __init__(self, embeddings: Tensor, batch_size: int, seed: int, workers: int = 0) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers

    def train_dataloader(self) -> ResumableLoader:
        """Loader of this rank's batches."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochBatchSampler(
            len(self.embeddings), self.batch_size, self.seed, shuffle=True, rank=rank, world_size=world_size
        )
        return ResumableLoader(_Rows(self.embeddings), sampler, workers=self.workers)


class _Rows(Dataset[Tensor]):
    """Rows of a tensor, a whole batch at a time."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: list[int]) -> Tensor:
        return self.rows[indices]
