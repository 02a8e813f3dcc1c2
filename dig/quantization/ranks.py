"""What the ranks of a distributed run do together; on one process all of it is free."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from torch import Tensor

__all__ = ["broadcast", "distributed", "gather_rows", "rank", "sum_over_ranks"]


def distributed() -> bool:
    """Whether there is a process group."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's rank."""
    return dist.get_rank() if distributed() else 0


def broadcast(tensor: Tensor) -> None:
    """Rank 0's values on every rank, in place."""
    if distributed():
        dist.broadcast(tensor, src=0)


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum over all ranks, in place."""
    if distributed():
        dist.all_reduce(tensor)
    return tensor


def gather_rows(rows: Tensor) -> Tensor:
    """All ranks' rows ``(ranks · batch, …)``, differentiable; every rank must hold equally many.

    The ranks take turns, so the order is that of the batch which one process would have been dealt
    (`datamodules.loading.EpochBatchSampler`).
    """
    if not distributed() or dist.get_world_size() == 1:
        return rows
    if rows.requires_grad:
        parts = list(dist_functional.all_gather(rows))
    else:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)
