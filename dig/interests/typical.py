"""Typical customers: those nearest to the centres of clusters (EIMF, arXiv 2411.09410)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from dig.quantization.kmeans import assign, kmeans

__all__ = ["typical_users"]

_ITERATIONS = 50


def typical_users(vectors: Tensor, clusters: int, each: int, generator: torch.Generator) -> Tensor:
    """The ``each`` members of every cluster that are nearest to its centre, all where it has no more.

    How the paper chooses is not public; this is our reading.

    Args:
        vectors: (users, width).
        clusters: clusters of k-means.
        each: typical users a cluster.
        generator: of k-means.

    Returns:
        (typical,) rows of ``vectors`` in order; every row once at most.

    Raises:
        ValueError: there are fewer users than clusters.
    """
    if len(vectors) < clusters:
        raise ValueError(f"{clusters} clusters are more than the {len(vectors)} users")
    vectors = vectors.float()
    centres = kmeans(vectors, clusters, _ITERATIONS, generator)
    codes = assign(vectors, centres)
    distances = (vectors - centres[codes]).square().sum(dim=1)
    order = distances.argsort(stable=True)
    order = order[codes[order].argsort(stable=True)]  # cluster after cluster, the nearest first
    bounds = torch.bincount(codes, minlength=clusters).cumsum(dim=0).tolist()
    chosen = [order[start:end][:each] for start, end in pairwise([0, *bounds])]
    return torch.cat(chosen).sort().values
