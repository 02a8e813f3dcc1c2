"""Even assignment: optimal transport that gives every code its share of the points."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["assign_evenly", "sinkhorn"]

_CHUNK_ELEMENTS = 2**22
"""Elements of a matrix that a sum looks at in one go; keeps the memory beyond the matrix small."""


@torch.no_grad()
def sinkhorn(
    costs: Tensor, epsilon: float, iterations: int, all_reduce: Callable[[Tensor], object] | None = None
) -> Tensor:
    """Prices of the codes under which entropic optimal transport gives each code the same mass (Cuturi 2013).

    A point belongs to the code where ``cost + price`` is least. Costs are taken relative to their mean, so that
    ``epsilon`` means the same for any scale of the data.

    Args:
        costs: ``(points, codes)``, for example squared distances.
        epsilon: strength of the entropy relative to the mean cost; smaller is sharper and needs more iterations.
        iterations: alternations between points and codes.
        all_reduce: sums a ``(codes,)`` tensor over processes in place, where each holds a part of the points.

    Returns:
        ``(codes,)`` float32 prices in the unit of the costs, with a mean of zero.
    """
    scale = _mean(costs, all_reduce).clamp_min(1e-12) * epsilon
    prices = costs.new_zeros(costs.shape[1], dtype=torch.float32)
    for _ in range(iterations):
        mass = torch.zeros_like(prices)
        for chunk in costs.split(max(1, _CHUNK_ELEMENTS // costs.shape[1])):
            mass += torch.softmax((-chunk.float() / scale) - prices, dim=1).sum(dim=0)
        if all_reduce is not None:
            all_reduce(mass)
        prices = prices + (mass / mass.mean()).clamp_min(1e-9).log()
    prices = prices - prices.mean()
    return prices * scale


@torch.no_grad()
def assign_evenly(costs: Tensor, epsilon: float = 0.02, iterations: int = 200) -> Tensor:
    """Codes of points such that no code has more than its share, rounded up, at a low total cost.

    Sinkhorn's prices spread the points; what is left over is settled by deferred acceptance (Gale & Shapley 1962): a
    point asks the codes in the order of ``cost + price``, a code keeps those that it is cheapest for.

    Args:
        costs: ``(points, codes)``.
        epsilon: see `sinkhorn`.
        iterations: see `sinkhorn`.

    Returns:
        ``(points,)`` int64 codes; each occurs at most ``⌈points / codes⌉`` times.
    """
    points, codes = costs.shape
    capacity = -(-points // codes)
    priced = costs.float() + sinkhorn(costs, epsilon, iterations)
    order = priced.argsort(dim=1)  # (points, codes), each point's codes from the cheapest
    asked = torch.zeros(points, dtype=torch.int64, device=costs.device)  # how many codes have refused a point
    chosen = order[:, 0].clone()
    while True:
        sizes = torch.bincount(chosen, minlength=codes)
        if int(sizes.max()) <= capacity:
            return chosen
        # rank of every point among those at its code, the cheapest first
        cost = priced.gather(1, chosen[:, None])[:, 0]
        by_cost = cost.argsort(stable=True)
        by_code = by_cost[chosen[by_cost].argsort(stable=True)]
        first = sizes.cumsum(dim=0) - sizes
        rank = torch.empty_like(chosen)
        rank[by_code] = torch.arange(points, device=costs.device) - first[chosen[by_code]]
        refused = rank >= capacity
        asked[refused] += 1
        chosen[refused] = order[refused, asked[refused]]


def _mean(costs: Tensor, all_reduce: Callable[[Tensor], object] | None) -> Tensor:
    """Mean of ``cost - least cost of its point`` over all processes: what separates codes, whatever the offset."""
    total = torch.stack(
        [
            (costs - costs.amin(dim=1, keepdim=True)).sum(dtype=torch.float64),
            torch.tensor(costs.numel(), dtype=torch.float64, device=costs.device),
        ]
    )
    if all_reduce is not None:
        all_reduce(total)
    return (total[0] / total[1].clamp_min(1)).float()
