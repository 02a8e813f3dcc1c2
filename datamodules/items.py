"""The catalogue in batches: item vectors for RQVAEModule, each with a random co-purchased partner on demand; texts and
pictures that wait for an encoder, dealt over the ranks; pairs of both for tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import LightningDataModule
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.loading import EpochBatchSampler, ResumableLoader
from dig.pictures import UNREADABLE, read_picture
from dig.quantization import ItemFeatures

__all__ = [
    "ItemBatch",
    "ItemDataModule",
    "Partners",
    "ContentDataModule",
    "PictureBatch",
    "PictureFiles",
    "TextBatch",
    "TextFiles",
    "open_picture",
    "PairDataModule",
    "PicturePairs",
]


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
        batch_size: items per step and rank.
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


class TextBatch(NamedTuple):
    """Texts with the keys of their contents."""

    keys: np.ndarray
    texts: list[str]


class PictureBatch(NamedTuple):
    """Decoded pictures with the keys of their contents."""

    keys: np.ndarray
    pixels: Tensor
    """``(batch, channels, height, width)``, as the encoder's own preprocessing makes them."""


class TextFiles(Dataset[TextBatch]):
    """Batches of texts, the longest first: little padding, and a lack of memory shows at once.

    Args:
        texts: the texts.
        keys: ``(texts, 2)``.
        batch_size: texts per batch.
    """

    def __init__(self, texts: Sequence[str], keys: np.ndarray, batch_size: int) -> None:
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)
        self.batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        self.texts, self.keys = texts, keys

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> TextBatch:
        rows = self.batches[index]
        return TextBatch(self.keys[rows], [self.texts[row] for row in rows])


class PictureFiles(Dataset[PictureBatch]):
    """Batches of decoded pictures. One that cannot be decoded is left out, never replaced.

    Args:
        paths: picture files.
        keys: ``(paths, 2)``.
        preprocess: turns a Pillow image into a tensor, as the encoder wants it.
        batch_size: pictures per batch.
    """

    def __init__(
        self, paths: Sequence[Path], keys: np.ndarray, preprocess: Callable[[Image.Image], Tensor], batch_size: int
    ) -> None:
        rows = range(len(paths))
        self.batches = [list(rows[start : start + batch_size]) for start in range(0, len(rows), batch_size)]
        self.paths, self.keys, self.preprocess = paths, keys, preprocess

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> PictureBatch:
        rows, pixels = [], []
        for row in self.batches[index]:
            picture = open_picture(self.paths[row], self.preprocess)
            if picture is not None:
                rows.append(row)
                pixels.append(picture)
        return PictureBatch(self.keys[rows], torch.stack(pixels) if pixels else torch.empty(0))


class ContentDataModule(LightningDataModule):
    """Batches of a data set that makes them itself; every rank takes its turn, and none is repeated.

    Args:
        batches: gives a batch an index.
        workers: worker processes.
    """

    def __init__(self, batches: TextFiles | PictureFiles, workers: int = 0) -> None:
        super().__init__()
        self.batches = batches
        self.workers = workers

    def predict_dataloader(self) -> DataLoader[Any]:
        """Loader of this rank's batches."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        turns = list(range(rank, len(self.batches), world_size))
        return DataLoader(self.batches, batch_size=None, sampler=turns, num_workers=self.workers)


def open_picture(path: Path, preprocess: Callable[[Image.Image], Tensor]) -> Tensor | None:
    """The picture as a tensor, as :func:`dig.pictures.read_picture` reads it, or None where there is none."""
    picture = read_picture(path)
    try:
        return None if picture is None else preprocess(picture)
    except UNREADABLE:  # such as a side of a single pixel, which no preprocessing can scale
        return None


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
        batch_size: pairs per step and rank.
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
