"""What a tokenizer is given of items: vectors of text, of pictures, and of behaviour."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dig.config.errors import UserError
from dig.engine.lazy import scipy

__all__ = [
    "ItemFeatures",
    "check_features",
    "ItemFusion",
    "behaviour_vectors",
]


_SHOWN = 5


class ItemFeatures(NamedTuple):
    """Vectors of the same items, row by row; what an experiment does not use is None."""

    text: Tensor | None
    """``(items, text_dim)``."""
    image: Tensor | None = None
    """``(items, image_dim)``; the rows of items without a picture mean nothing."""
    has_image: Tensor | None = None
    """``(items,)`` bool; there where ``image`` is."""
    behaviour: Tensor | None = None
    """``(items, behaviour_dim)`` collaborative vectors, a zero row for an item that nobody bought."""

    @property
    def items(self) -> int:
        """Number of items."""
        vectors = self.text if self.text is not None else self.image
        if vectors is None:
            raise ValueError("features need text or image vectors")
        return len(vectors)

    @property
    def text_dim(self) -> int:
        """Width of the text vectors, 0 where there are none."""
        return 0 if self.text is None else self.text.shape[1]

    @property
    def image_dim(self) -> int:
        """Width of the picture vectors, 0 where there are none."""
        return 0 if self.image is None else self.image.shape[1]

    def take(self, rows: Tensor | list[int] | slice) -> ItemFeatures:
        """The items at the given rows."""
        return ItemFeatures(*(None if part is None else part[rows] for part in self))

    def to(self, device: torch.device) -> ItemFeatures:
        """The same on a device."""
        return ItemFeatures(*(None if part is None else part.to(device) for part in self))

    def chunks(self, items: int) -> list[ItemFeatures]:
        """The items in pieces, without a copy."""
        return [self.take(slice(start, start + items)) for start in range(0, self.items, items)]


def check_features(features: ItemFeatures, item_ids: list[str]) -> None:
    """Refuses what no tokenizer can work with.

    Raises:
        UserError: parts disagree about the number of items, or a vector holds NaN or infinite values; names the items.
    """
    named = {name: part for name, part in features._asdict().items() if part is not None}
    for name, part in named.items():
        if len(part) != len(item_ids):
            raise UserError(f"{name} vectors of {len(part)} items do not fit a catalogue of {len(item_ids)}")
    if (features.image is None) != (features.has_image is None):
        raise UserError("image vectors need the mask of the items that have a picture, and the mask needs them")
    for name, part in named.items():
        if not part.is_floating_point():
            continue
        bad = ~torch.cat([chunk.isfinite().all(dim=1) for chunk in part.split(65_536)])
        if name == "image" and features.has_image is not None:
            bad &= features.has_image
        rows = bad.nonzero()[:, 0].tolist()
        if rows:
            shown = ", ".join(item_ids[row] for row in rows[:_SHOWN]) + (", …" if len(rows) > _SHOWN else "")
            raise UserError(f"the {name} vectors of {len(rows)} of {len(item_ids)} items are not finite: {shown}")


_FLAT = 1e-6
"""A dimension that deviates less than this is constant and stays at zero."""


class ItemFusion(nn.Module):
    """``e_mm = W_f [e_text ; W_v f_CLIP(image)]`` over standardised vectors; W_v and W_f are trained with the RQ-VAE.

    With text alone or pictures alone the standardised vectors pass as they are. A picture that is not there adds
    nothing to e_mm and is not a target of the reconstruction, so that its absence is never taken for a look.

    Args:
        text_dim: width of the text vectors, 0 for none.
        image_dim: width of the picture vectors, 0 for none.
        visual_dim: width of ``W_v f``.
        image_weight: weight of the pictures' reconstruction beside the text's.

    Raises:
        ValueError: there is neither text nor a picture.
    """

    def __init__(self, text_dim: int, image_dim: int = 0, visual_dim: int = 64, image_weight: float = 1.0) -> None:
        super().__init__()
        if not text_dim and not image_dim:
            raise ValueError("items need text vectors, picture vectors or both")
        self.text_dim = text_dim
        self.image_dim = image_dim
        self.image_weight = image_weight
        self.fused = bool(text_dim and image_dim)
        self.project = nn.Linear(image_dim, visual_dim, bias=False) if self.fused else None  # W_v
        self.fuse = nn.Linear(text_dim + visual_dim, text_dim, bias=False) if self.fused else None  # W_f
        self.mean: Tensor
        self.scale: Tensor
        self.picture_share: Tensor
        self.register_buffer("mean", torch.zeros(text_dim + image_dim))
        self.register_buffer("scale", torch.ones(text_dim + image_dim))
        self.register_buffer("picture_share", torch.tensor(1.0))

    @property
    def width(self) -> int:
        """Width of e_mm."""
        return self.text_dim or self.image_dim

    @torch.no_grad()
    def fit(self, features: ItemFeatures) -> None:
        """Takes mean and deviation of the catalogue's vectors; those of pictures from the items that have one."""
        start = 0
        for vectors, mask in ((features.text, None), (features.image, features.has_image)):
            if vectors is None:
                continue
            mean, deviation = _moments(vectors, mask)
            self.mean[start : start + len(mean)] = mean
            self.scale[start : start + len(mean)] = torch.where(deviation > _FLAT, deviation, 1.0)
            start += len(mean)
        if features.has_image is not None:
            self.picture_share.fill_(features.has_image.double().mean().clamp_min(1e-9))

    def standardise(self, features: ItemFeatures) -> Tensor:
        """``(batch, text_dim + image_dim)``: text, then picture, a row of zeros for a picture that is not there."""
        parts = [
            part.to(self.mean.device, torch.float32) for part in (features.text, features.image) if part is not None
        ]
        standard = (torch.cat(parts, dim=1) - self.mean) / self.scale
        if features.has_image is None:
            return standard
        mask = features.has_image.to(standard.device)[:, None]
        text, image = standard.split([self.text_dim, self.image_dim], dim=1)
        return torch.cat([text, torch.where(mask, image, 0.0)], dim=1)

    def forward(self, standard: Tensor) -> Tensor:
        """e_mm ``(batch, width)`` of what `standardise` gives."""
        if self.project is None or self.fuse is None:
            return standard
        text, image = standard.split([self.text_dim, self.image_dim], dim=1)
        fused: Tensor = self.fuse(torch.cat([text, self.project(image)], dim=1))
        return fused

    def blocks(self, standard: Tensor) -> Tensor:
        """The same without anything trained, for k-means: text and pictures side by side, each with its weight."""
        text, image = standard.split([self.text_dim, self.image_dim], dim=1)
        scaled = image * (self.image_weight / max(self.image_dim, 1)) ** 0.5
        return torch.cat([text / max(self.text_dim, 1) ** 0.5, scaled], dim=1)

    def error(self, reconstruction: Tensor, standard: Tensor, has_image: Tensor | None) -> Tensor:
        """Squared error, 0-d: mean over text dimensions plus ``image_weight`` times the mean over present pictures.

        The number of pictures in a batch counts as its expectation, so that the mean over ranks is that over items.
        """
        squared = (reconstruction - standard).square()
        text, image = squared.split([self.text_dim, self.image_dim], dim=1)
        total = squared.new_zeros(())
        if self.text_dim:
            total = total + text.mean()
        if self.image_dim:
            mask = torch.ones_like(image[:, 0]) if has_image is None else has_image.to(image)
            weight = self.image_weight if self.text_dim else 1.0
            total = total + weight * (image.mean(dim=1) * mask).mean() / self.picture_share
        return total


def _moments(vectors: Tensor, there: Tensor | None, rows: int = 65_536) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each dimension, in float64 and in pieces."""
    total = vectors.new_zeros(vectors.shape[1], dtype=torch.float64)
    squares, count = total.clone(), 0
    shift = vectors[: min(len(vectors), rows)].double().mean(dim=0).nan_to_num()  # keeps the squares small
    for start in range(0, len(vectors), rows):
        chunk = vectors[start : start + rows]
        if there is not None:
            chunk = chunk[there[start : start + rows]]
        moved = chunk.double() - shift
        total += moved.sum(dim=0)
        squares += moved.square().sum(dim=0)
        count += len(chunk)
    mean = total / max(count, 1)
    deviation = (squares / max(count, 1) - mean.square()).clamp_min(0).sqrt()
    return (mean + shift).float(), deviation.float()


def behaviour_vectors(left: np.ndarray, right: np.ndarray, counts: np.ndarray, items: int, dim: int) -> Tensor:
    """Truncated factors of the positive pointwise mutual information of co-purchases (Levy & Goldberg 2014).

    Stands in for the vectors of a trained recommender in LETTER's alignment; needs no training and no seed.

    Args:
        left: ``(pairs,)`` item rows, training part only.
        right: ``(pairs,)`` item rows.
        counts: ``(pairs,)`` how often each pair was bought together.
        items: size of the catalogue.
        dim: width of the vectors; fewer where the catalogue is smaller.

    Returns:
        ``(items, dim)`` float32 of length 1; zero for an item without a pair.
    """
    dim = min(dim, items - 1)
    weights = np.concatenate([counts, counts]).astype(np.float64)
    rows, columns = np.concatenate([left, right]), np.concatenate([right, left])
    degrees = np.bincount(rows, weights, items)
    ratio = weights * weights.sum() / (degrees[rows] * degrees[columns])
    positive = np.maximum(np.log(ratio), 0.0)
    matrix = scipy.sparse.csr_matrix((positive, (rows, columns)), shape=(items, items))
    if dim < 1 or matrix.nnz == 0:
        return torch.zeros(items, max(dim, 1))
    start = np.random.default_rng(0).normal(size=items)  # ARPACK's own start would differ from run to run
    factors, values, _ = scipy.sparse.linalg.svds(matrix, k=dim, v0=start)
    order = np.argsort(-values)
    vectors = factors[:, order] * np.sqrt(values[order])
    vectors *= np.where(np.abs(vectors).max(axis=0) == vectors.max(axis=0), 1.0, -1.0)  # signs are free; fix them
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return torch.from_numpy(np.where(lengths > 1e-9, vectors / np.maximum(lengths, 1e-9), 0.0).astype(np.float32))
