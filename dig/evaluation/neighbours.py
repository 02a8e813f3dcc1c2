"""Do Semantic IDs put together what people buy together, and what belongs together?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from dig.quantization.semantic_ids import group_rows

__all__ = ["NeighbourRecall", "neighbour_recall", "prefix_purity"]


class NeighbourRecall(NamedTuple):
    """How often co-purchased items share leading codes; index 0 is one shared code, 1 two, and so on."""

    share: np.ndarray
    """``(levels,)`` share of co-purchased pairs that share so many leading codes."""
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
        categories: one an item, None where there is none.

    Returns:
        ``(levels,)``; NaN where no branch holds two items with a category.
    """
    known = np.array([category is not None for category in categories], dtype=bool)
    names, labels = np.unique([category for category in categories if category is not None], return_inverse=True)
    found = []
    for level in range(1, codes.shape[1] + 1):
        groups = group_rows(codes[:, :level]).cpu().numpy()[known]
        pairs, counts = np.unique(groups * max(len(names), 1) + labels, return_counts=True)
        branch = pairs // max(len(names), 1)
        size, most = np.zeros(groups.max(initial=-1) + 1), np.zeros(groups.max(initial=-1) + 1)
        np.add.at(size, branch, counts)
        np.maximum.at(most, branch, counts)
        several = size > 1
        found.append(most[several].sum() / size[several].sum() if several.any() else np.nan)
    return np.array(found)
