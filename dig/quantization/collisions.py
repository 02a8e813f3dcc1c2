"""Items that share all their codes: moved to the next-best codes of their branch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dig.engine.lazy import scipy
from dig.quantization.semantic_ids import group_rows

__all__ = ["COLLISIONS", "reassign"]

COLLISIONS = ("suffix", "reassign", "keep")
"""`suffix`: a further code where, and only where, items share theirs (the paper's). `reassign`: next-best last codes,
and a suffix for what finds no place. `keep`: items go on sharing."""


@torch.no_grad()
def reassign(codes: Tensor, costs: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """Spreads the items of every branch with a collision over different codes of the last level.

    A branch is all items that share the codes before the last. Inside it every item gets a code of its own such that
    the total cost is least: the exact solution of the transport problem that Sinkhorn's iterations, as in MiniOneRec
    (arXiv 2510.24431), approach. In a branch with more items than codes, the best item of every code stays, the codes
    that are free go to the others at the least total cost, and whoever is left over stays in a collision.

    Args:
        codes: ``(items, levels)`` int64.
        costs: gives, for item rows ``(n,)``, what each code of the last level would cost them, ``(n, size)``.
        size: codes of the last level.

    Returns:
        ``(items, levels)`` int64; only the last column differs.
    """
    result = codes.clone()
    branches = group_rows(codes[:, :-1]) if codes.shape[1] > 1 else torch.zeros(len(codes), dtype=torch.int64)
    twins = group_rows(codes)
    shared = torch.bincount(twins)[twins] > 1
    order = branches.argsort(stable=True)
    for rows in order.split(torch.bincount(branches).tolist()):
        if shared[rows].any():
            chosen = _assign(costs(rows).double().cpu().numpy(), codes[rows, -1].numpy(), size)
            result[rows, -1] = torch.from_numpy(chosen)
    return result


def _assign(costs: np.ndarray, own: np.ndarray, size: int) -> np.ndarray:
    """``(n,)`` codes, different as long as there are enough."""
    chosen = own.copy()
    if len(own) <= size:
        rows, places = scipy.optimize.linear_sum_assignment(costs)
        chosen[rows] = places
        return chosen
    by_cost = np.argsort(costs[np.arange(len(own)), own], kind="stable")
    used, first = np.unique(own[by_cost], return_index=True)
    others = np.setdiff1d(np.arange(len(own)), by_cost[first])
    free = np.setdiff1d(np.arange(size), used)
    rows, places = scipy.optimize.linear_sum_assignment(costs[np.ix_(others, free)])
    chosen[others[rows]] = free[places]
    return chosen
