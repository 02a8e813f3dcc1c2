"""The encoders as LightningModules, so that ``Trainer.predict`` spreads their work over devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from dig.embeddings.clip import ClipModel
from dig.embeddings.text import TextEncoder

if TYPE_CHECKING:
    from datamodules.contents import PictureBatch, TextBatch

__all__ = ["PictureEncoding", "TextEncoding"]


class TextEncoding(LightningModule):
    """Texts to vectors.

    Args:
        encoder: the loaded encoder.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.model = encoder.model  # a submodule, so that Lightning moves it

    def transfer_batch_to_device(self, batch: TextBatch, device: torch.device, dataloader_idx: int) -> TextBatch:
        """Texts stay where they are."""
        return batch

    def predict_step(self, batch: TextBatch) -> tuple[np.ndarray, Tensor]:
        """Keys and vectors ``(batch, dim)``."""
        return batch.keys, self.encoder.encode_batch(batch.texts)


class PictureEncoding(LightningModule):
    """Pictures to vectors of length 1.

    Args:
        clip: the loaded open_clip model.
    """

    def __init__(self, clip: ClipModel) -> None:
        super().__init__()
        self.clip = clip
        self.model = clip.model

    def transfer_batch_to_device(self, batch: PictureBatch, device: torch.device, dataloader_idx: int) -> PictureBatch:
        """Pixels move, keys stay."""
        return batch._replace(pixels=batch.pixels.to(device, non_blocking=True))

    def predict_step(self, batch: PictureBatch) -> tuple[np.ndarray, Tensor]:
        """Keys and vectors ``(batch, dim)``."""
        if not len(batch.keys):
            return batch.keys, torch.empty(0, self.clip.dim)
        return batch.keys, self.clip.encode_pictures(batch.pixels)
