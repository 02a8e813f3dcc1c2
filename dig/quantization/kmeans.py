"""k-means for codebooks, and residual k-means: Semantic IDs without training a network (GRID, arXiv 2507.22224)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange, reduce
from torch import Tensor

from dig.engine.console import track
from dig.quantization.sinkhorn import assign_evenly

__all__ = [
    "assign",
    "kmeans",
    "ResidualCodes",
    "residual_kmeans",
]


_SEEDING_POINTS = 50_000
"""k-means++ looks at this many points at most: one pass a centroid over more of them costs time and changes little."""
_CHUNK_ELEMENTS = 2**22
"""Distances held at a time, so that a million points need 16 MiB and not gigabytes."""


@torch.no_grad()
def kmeans(points: Tensor, num_clusters: int, iterations: int, generator: torch.Generator | None = None) -> Tensor:
    """Centroids that Lloyd's algorithm finds from a greedy k-means++ start (Arthur & Vassilvitskii 2007).

    A cluster that loses its points moves to the point farthest from its own centroid. With fewer distinct points than
    clusters every distinct point gets a centroid and the surplus centroids repeat points; `assign` picks the first.

    Args:
        points: ``(n, dim)``, n >= 1.
        num_clusters: number of centroids k.
        iterations: Lloyd iterations at most; it stops early when no point changes its cluster.
        generator: source of randomness, a CPU generator; None takes torch's global one.

    Returns:
        ``(k, dim)`` centroids, as float32 on the device of the points.

    Raises:
        ValueError: there is no point or no cluster.
    """
    if len(points) == 0 or num_clusters < 1:
        raise ValueError(f"k-means needs points and clusters, it got {len(points)} points and {num_clusters} clusters")
    points = points.float()
    mean = points.mean(dim=0)
    points = points - mean  # small norms keep |x|² − 2xc + |c|² exact enough
    centroids = _seed(_subsample(points, generator), num_clusters, generator)
    codes = assign(points, centroids)
    for _ in range(iterations):
        centroids = _refill(points, codes, *_cluster_means(points, codes, num_clusters))
        previous, codes = codes, assign(points, centroids)
        if torch.equal(previous, codes):
            break
    return centroids + mean


@torch.no_grad()
def assign(points: Tensor, centroids: Tensor) -> Tensor:
    """The nearest centroid of every point, the first one of equals.

    Points are taken in chunks, so that memory beyond the result stays flat; always in float32, also under autocast.

    Args:
        points: ``(n, dim)``.
        centroids: ``(k, dim)``.

    Returns:
        ``(n,)`` int64 codes.
    """
    codes = torch.empty(len(points), dtype=torch.int64, device=points.device)
    with torch.autocast(points.device.type, enabled=False):
        directions = rearrange(centroids.float(), "codes dim -> dim codes")
        half_norms = reduce(directions.square(), "dim codes -> codes", "sum") / 2
        rows = max(1, _CHUNK_ELEMENTS // len(centroids))
        for start in range(0, len(points), rows):
            chunk = points[start : start + rows].float()
            codes[start : start + rows] = torch.addmm(half_norms, chunk, directions, alpha=-1).argmin(dim=1)
    return codes


def _subsample(points: Tensor, generator: torch.Generator | None) -> Tensor:
    if len(points) <= _SEEDING_POINTS:
        return points
    return points[torch.randperm(len(points), generator=generator)[:_SEEDING_POINTS].to(points.device)]


def _seed(points: Tensor, num_clusters: int, generator: torch.Generator | None) -> Tensor:
    """Greedy k-means++: of a few candidates drawn by squared distance, the one that lowers the total most."""
    candidates = 2 + int(math.log(num_clusters))
    norms = reduce(points.square(), "n dim -> n", "sum")
    first = torch.randint(len(points), (1,), generator=generator).to(points.device)
    distances = _squared_distances(points, norms, first)[:, 0]  # (n,)
    chosen = [first]
    while len(chosen) < num_clusters:
        rows = _draw(distances, candidates, generator)
        lowered = torch.minimum(distances[:, None], _squared_distances(points, norms, rows))  # (n, candidates)
        best = lowered.sum(dim=0).argmin()
        chosen.append(rows[best, None])
        distances = lowered[:, best]
    return points[torch.cat(chosen)]


def _draw(weights: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Rows drawn in proportion to their weights by inverse transform; evenly where all weights are zero."""
    cumulative = weights.double().cumsum(dim=0)
    if cumulative[-1] <= 0:
        return torch.randint(len(weights), (count,), generator=generator).to(weights.device)
    uniform = torch.rand(count, dtype=torch.float64, generator=generator).to(weights.device)
    rows = torch.searchsorted(cumulative, uniform * cumulative[-1], right=True)
    return rows.clamp_max(len(weights) - 1)


def _squared_distances(points: Tensor, norms: Tensor, rows: Tensor) -> Tensor:
    """``(n, k)`` squared distances to the points at `rows`; what rounding leaves between equals counts as zero."""
    distances = torch.addmm(norms[:, None] + norms[rows], points, points[rows].T, alpha=-2)
    return torch.where(distances > 1e-6 * norms[:, None], distances, 0.0)


def _cluster_means(points: Tensor, codes: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Means ``(k, dim)`` and sizes ``(k,)`` of the clusters; an empty one has a mean of zero."""
    sums = points.new_zeros(num_clusters, points.shape[1]).index_add_(0, codes, points)
    sizes = torch.bincount(codes, minlength=num_clusters)
    return sums / sizes.clamp_min(1)[:, None], sizes


def _refill(points: Tensor, codes: Tensor, centroids: Tensor, sizes: Tensor) -> Tensor:
    """Moves the empty clusters to the points farthest from their own centroid."""
    empty = (sizes == 0).nonzero()[:, 0]
    if len(empty) == 0:
        return centroids
    errors = reduce((points - centroids[codes]).square(), "n dim -> n", "sum")
    farthest = errors.topk(min(len(empty), len(points))).indices
    repeats = -(-len(empty) // len(farthest))
    centroids[empty] = points[farthest.repeat(repeats)[: len(empty)]]
    return centroids


_BALANCING_ROUNDS = 5
"""Even assignments and new means in turn; the total cost hardly falls after a few."""


class ResidualCodes(NamedTuple):
    """What residual k-means finds."""

    codebooks: list[Tensor]
    """``(codes, dim)`` float32 per level."""
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
        sizes: number of codes, one per level.
        iterations: Lloyd iterations per level.
        balanced: give every code of a level its share of the items, rounded up, and no more (balanced residual k-means,
            as OneRec's, arXiv 2502.18965); takes ``items · codes`` floats of memory per level.
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
