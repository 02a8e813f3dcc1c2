"""CLIPModule: contrastive tuning of an open_clip model on the catalogue's own pictures and texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from dig.config.errors import UserError
from dig.config.schema import AdaptConfig
from dig.embeddings.clip import ClipModel
from dig.embeddings.text import TextEncoder

if TYPE_CHECKING:
    from datamodules.items import PictureBatch, TextBatch

__all__ = [
    "CLIPModule",
    "PictureEncoding",
    "TextEncoding",
]


_LARGEST_SCALE = math.log(100.0)
"""CLIP clips the factor of its cosines at 100 (arXiv 2103.00020, section 2.5)."""


class CLIPModule(LightningModule):
    """Pulls a picture and its own text together and pushes other items' texts away, with open_clip's loss.

    Negatives come from all ranks. The texts of a batch may be nearly equal; the loss then cannot fall to 0.

    Args:
        clip: the model to tune.
        config: learning rate, decay and warm-up.
    """

    def __init__(self, clip: ClipModel, config: AdaptConfig) -> None:
        super().__init__()
        self.clip = clip
        self.model = clip.model
        self.config = config
        self._loss: Any = None

    def on_fit_start(self) -> None:
        """Makes the loss for this number of ranks."""
        from open_clip import ClipLoss

        self.model.train()  # it was loaded for reading
        self._loss = ClipLoss(gather_with_grad=True, rank=self.global_rank, world_size=self.trainer.world_size)

    def on_fit_end(self) -> None:
        """The model is for reading again."""
        self.model.eval()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The symmetric cross-entropy over the batch's pictures and texts."""
        pixels, tokens = batch
        pictures, texts = self.clip.encode_pictures(pixels), self._texts(tokens)
        scale = self.model.logit_scale.exp()  # type: ignore[operator]
        loss: Tensor = self._loss(pictures, texts, scale)
        hits = ((pictures @ texts.T).argmax(dim=1) == torch.arange(len(texts), device=texts.device)).float().mean()
        self.log_dict(
            {"train/loss": loss.detach(), "train/matched": hits, "train/scale": scale.detach()}, batch_size=len(pixels)
        )
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keeps the factor of the cosines in CLIP's bounds."""
        with torch.no_grad():
            self.model.logit_scale.clamp_(0.0, _LARGEST_SCALE)  # type: ignore[operator]

    def configure_optimizers(self) -> Any:
        """AdamW without decay on gains, biases and the scale; warm-up, then a cosine to zero."""
        named = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in named if p.ndim >= 2], "weight_decay": self.config.weight_decay},
            {"params": [p for p in named if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.config.learning_rate, betas=(0.9, 0.98), eps=1e-6)
        batches = len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        total = max(1, batches // self.trainer.accumulate_grad_batches * int(self.trainer.max_epochs or 1))
        warm = max(1, math.ceil(self.config.warmup_ratio * total))

        def rate(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _texts(self, tokens: Tensor) -> Tensor:
        vectors: Tensor = self.model.encode_text(tokens)  # type: ignore[operator]
        return torch.nn.functional.normalize(vectors.float(), dim=1)


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
        """Keys and vectors ``(batch, dim)``.

        Raises:
            UserError: a vector is not finite.
        """
        if not len(batch.keys):
            return batch.keys, torch.empty(0, self.clip.dim)
        vectors = self.clip.encode_pictures(batch.pixels)
        bad = int((~vectors.isfinite().all(dim=1)).sum())
        if bad:
            raise UserError(
                f"visual.model gives NaN or infinite values for {bad} of {len(vectors)} pictures of a batch; its "
                "weights are damaged"
            )
        return batch.keys, vectors
