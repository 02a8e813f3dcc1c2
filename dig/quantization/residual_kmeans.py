"""Residual k-means: Semantic IDs without training a network (GRID, arXiv 2507.22224)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dig.engine.console import track
from dig.quantization.kmeans import assign, kmeans
from dig.quantization.sinkhorn import assign_evenly

__all__ = ["ResidualCodes", "residual_kmeans"]

_BALANCING_ROUNDS = 5
"""Even assignments and new means in turn; the total cost hardly falls after a few."""


class ResidualCodes(NamedTuple):
    """What residual k-means finds."""

    codebooks: list[Tensor]
    """``(codes, dim)`` float32 a level."""
    codes: Tensor
    """``(items, levels)`` int64."""
    quantized: Tensor
    """``(items, dim)`` float32, the sum of each item's codes."""


@torch.no_grad()
def residual_kmeans(
    points: Tensor,
    sizes: Sequence[int],
    iterations: int = 20,
    balanced: bool = False,
    generator: torch.Generator | None = None,
) -> ResidualCodes:
    """Clusters the points, then what the clusters leave over, and so on.

    Args:
        points: ``(items, dim)``.
        sizes: number of codes, one a level.
        iterations: Lloyd iterations a level.
        balanced: give every code of a level its share of the items, rounded up, and no more (balanced residual k-means,
            as OneRec's, arXiv 2502.18965); takes ``items · codes`` floats of memory a level.
        generator: source of randomness, a CPU generator; None takes torch's global one.

    Raises:
        ValueError: there is no point, or a size is below 1.
    """
    residual = points.float()
    codebooks, codes = [], []
    for size in track(list(sizes), "residual k-means"):
        codebook = kmeans(residual, size, iterations, generator)
        if balanced:
            codebook, chosen = _balance(residual, codebook)
        else:
            chosen = assign(residual, codebook)
        codebooks.append(codebook)
        codes.append(chosen)
        residual = residual - codebook[chosen]
    return ResidualCodes(codebooks, torch.stack(codes, dim=1), points.float() - residual)


def _balance(points: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    chosen = assign_evenly(_costs(points, codebook))
    for _ in range(_BALANCING_ROUNDS):
        sums = torch.zeros_like(codebook).index_add_(0, chosen, points)
        sizes = torch.bincount(chosen, minlength=len(codebook))
        codebook = torch.where((sizes > 0)[:, None], sums / sizes.clamp_min(1)[:, None], codebook)
        previous, chosen = chosen, assign_evenly(_costs(points, codebook))
        if torch.equal(previous, chosen):
            break
    return codebook, chosen


def _costs(points: Tensor, codebook: Tensor) -> Tensor:
    """``(items, codes)`` squared distances less the point's own norm, which says nothing about the choice."""
    return torch.addmm(codebook.square().sum(dim=1), points, codebook.T, alpha=-2)
