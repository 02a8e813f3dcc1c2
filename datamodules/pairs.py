"""Pictures with the texts of their items, for contrastive tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from lightning import LightningDataModule
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.contents import open_picture
from datamodules.loading import EpochBatchSampler, ResumableLoader

__all__ = ["PairDataModule", "PicturePairs"]


class PicturePairs(Dataset[tuple[Tensor, Tensor]]):
    """Pictures and texts of the same items, a whole batch at a time; texts are tokenised once, pictures every time.

    Args:
        paths: picture files that can be decoded.
        texts: the text of each.
        preprocess: the model's own, for pictures.
        tokenize: the model's own, for texts.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        texts: Sequence[str],
        preprocess: Callable[[Image.Image], Tensor],
        tokenize: Callable[[list[str]], Tensor],
    ) -> None:
        self.paths, self.preprocess = paths, preprocess
        self.tokens = tokenize(list(texts))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        pixels = []
        for index in indices:
            picture = open_picture(self.paths[index], self.preprocess)
            if picture is None:
                raise OSError(f"{self.paths[index]} could be decoded before and cannot any more")
            pixels.append(picture)
        return torch.stack(pixels), self.tokens[indices]


class PairDataModule(LightningDataModule):
    """Batches of ``(pixels, tokens)``, shuffled by (seed, epoch) and dealt over the ranks.

    Args:
        pairs: the pairs.
        batch_size: pairs a step and rank.
        seed: seed of the order.
        workers: worker processes that decode.
    """

    def __init__(self, pairs: PicturePairs, batch_size: int, seed: int, workers: int = 0) -> None:
        super().__init__()
        self.pairs = pairs
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers

    def train_dataloader(self) -> ResumableLoader:
        """Loader of this rank's batches."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochBatchSampler(len(self.pairs), self.batch_size, self.seed, True, rank, world_size)
        return ResumableLoader(self.pairs, sampler, workers=self.workers)
