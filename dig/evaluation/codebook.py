"""Health of Semantic IDs: are all codes used, how evenly, and how many items share theirs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dig.quantization.semantic_ids import group_rows

__all__ = ["collision_rate", "dead_codes", "largest_collision", "perplexity", "usage"]


def usage(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Share of codes that at least one item has, ``(levels,)`` between 0 and 1.

    Args:
        codes: ``(items, levels)``; -1 (no suffix) counts for nothing.
        sizes: codes a level.
    """
    return torch.stack([(counts > 0).double().mean() for counts in _counts(codes, sizes)])


def dead_codes(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Number of codes that no item has, ``(levels,)`` int64.

    Args:
        codes: ``(items, levels)``; -1 (no suffix) counts for nothing.
        sizes: codes a level.
    """
    return torch.stack([(counts == 0).sum() for counts in _counts(codes, sizes)])


def perplexity(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Exponential of the entropy of the codes, ``(levels,)``: the size where all are used evenly, 1 where only one is.

    Args:
        codes: ``(items, levels)``; -1 (no suffix) counts for nothing.
        sizes: codes a level.
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
    """How often each code occurs, ``(size,)`` float64 a level."""
    columns = zip(codes.unbind(dim=1), sizes, strict=True)
    return [torch.bincount(column[column >= 0], minlength=size).double() for column, size in columns]
