"""Health of Semantic IDs: are all codes used, how evenly, and do neighbours in behaviour and content share prefixes?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dig.quantization.semantic_ids import group_rows

__all__ = [
    "collision_rate",
    "dead_codes",
    "largest_collision",
    "perplexity",
    "usage",
    "NeighbourRecall",
    "neighbour_recall",
    "prefix_purity",
]


def usage(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Share of codes that at least one item has, ``(levels,)`` between 0 and 1.

    Args:
        codes: ``(items, levels)``; -1 (no suffix) counts for nothing.
        sizes: codes per level.
    """
    return torch.stack([(counts > 0).double().mean() for counts in _counts(codes, sizes)])


def dead_codes(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Number of codes that no item has, ``(levels,)`` int64.

    Args:
        codes: ``(items, levels)``; -1 (no suffix) counts for nothing.
        sizes: codes per level.
    """
    return torch.stack([(counts == 0).sum() for counts in _counts(codes, sizes)])


def perplexity(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Exponential of the entropy of the codes, ``(levels,)``: the size where all are used evenly, 1 where only one is.

    Args:
        codes: ``(items, levels)``; -1 (no suffix) counts for nothing.
        sizes: codes per level.
    """
    shares = [counts / counts.sum().clamp_min(1) for counts in _counts(codes, sizes)]
    return torch.stack([torch.special.entr(share).sum().exp() for share in shares])


def collision_rate(codes: Tensor) -> float:
    """Share of items whose codes ``(items, levels)`` another item has too; 0 for an empty catalogue."""
    groups = group_rows(codes)
    if len(groups) == 0:
        return 0.0
    return float((torch.bincount(groups)[groups] > 1).double().mean())


def largest_collision(codes: Tensor) -> int:
    """Number of items in the largest set that shares all codes ``(items, levels)``; 1 where none do."""
    groups = group_rows(codes)
    return int(torch.bincount(groups).max()) if len(groups) else 0


def _counts(codes: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """How often each code occurs, ``(size,)`` float64 per level."""
    columns = zip(codes.unbind(dim=1), sizes, strict=True)
    return [torch.bincount(column[column >= 0], minlength=size).double() for column, size in columns]


class NeighbourRecall(NamedTuple):
    """How often co-purchased items share leading codes; index 0 is one shared code, 1 two, and so on."""

    share: np.ndarray
    """``(levels,)`` share of co-purchased pairs that share this many leading codes."""
    chance: np.ndarray
    """``(levels,)`` the same of pairs of different items drawn by popularity alone."""

    @property
    def lift(self) -> np.ndarray:
        """``(levels,)`` share over chance: 1 where codes know nothing of behaviour; NaN where chance is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.chance > 0, self.share / self.chance, np.nan)


def neighbour_recall(
    codes: Tensor, left: np.ndarray, right: np.ndarray, counts: np.ndarray | None = None
) -> NeighbourRecall:
    """How much more often co-purchased items share one, two, three … leading codes than chance.

    Chance keeps the items' popularity among pairs (configuration model), so bestsellers in one branch do not look like
    structure.

    Args:
        codes: ``(items, levels)`` without the suffix.
        left: ``(pairs,)`` item rows; a pair is of different items.
        right: ``(pairs,)`` item rows.
        counts: ``(pairs,)`` weights of the pairs; None weighs all the same.

    Raises:
        ValueError: there is no pair.
    """
    if len(left) == 0:
        raise ValueError("neighbour recall needs at least one pair of co-purchased items")
    weights = np.ones(len(left)) if counts is None else counts.astype(np.float64)
    mass = np.bincount(left, weights, len(codes)) + np.bincount(right, weights, len(codes))
    mass = mass / mass.sum()
    same_item = float(mass @ mass)
    share, chance = [], []
    for level in range(1, codes.shape[1] + 1):
        groups = group_rows(codes[:, :level]).cpu().numpy()
        share.append(weights[groups[left] == groups[right]].sum() / weights.sum())
        inside = np.bincount(groups, mass)
        chance.append(max(0.0, float(inside @ inside) - same_item) / (1 - same_item))
    return NeighbourRecall(np.array(share), np.array(chance))


def prefix_purity(codes: Tensor, categories: Sequence[str | None]) -> np.ndarray:
    """Share of items whose category is the commonest one of their branch, a level.

    Items alone in their branch, which would always agree with themselves, and items without a category are left out.

    Args:
        codes: ``(items, levels)`` without the suffix.
        categories: one per item, None where there is none.

    Returns:
        ``(levels,)``; NaN where no branch holds two items with a category.
    """
    has_category = np.array([category is not None for category in categories], dtype=bool)
    names, labels = np.unique([category for category in categories if category is not None], return_inverse=True)
    purities = []
    for level in range(1, codes.shape[1] + 1):
        groups = group_rows(codes[:, :level]).cpu().numpy()[has_category]
        pairs, counts = np.unique(groups * max(len(names), 1) + labels, return_counts=True)
        branch = pairs // max(len(names), 1)
        size, most = np.zeros(groups.max(initial=-1) + 1), np.zeros(groups.max(initial=-1) + 1)
        np.add.at(size, branch, counts)
        np.maximum.at(most, branch, counts)
        several = size > 1
        purities.append(most[several].sum() / size[several].sum() if several.any() else np.nan)
    return np.array(purities)
