"""Optional terms of the tokenizer's loss: what is bought together, and how the codes lie."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dig.quantization.kmeans import kmeans
from dig.quantization.residual import gather_rows
from dig.quantization.sinkhorn import assign_evenly

__all__ = ["cluster_codes", "info_nce", "diversity"]


def info_nce(anchors: Tensor, positives: Tensor, temperature: float, there: Tensor | None = None) -> Tensor:
    """InfoNCE between rows that belong together, both ways, against all other rows of the batch and of all ranks.

    Args:
        anchors: ``(batch, dim)``.
        positives: ``(batch, dim)``.
        temperature: divides the cosines.
        there: ``(batch,)`` bool, rows that have a positive; None means all.

    Returns:
        0-d; the same on every rank, 0 where fewer than two rows have a positive.
    """
    first, second = (F.normalize(gather_rows(rows), dim=1) for rows in (anchors, positives))
    if there is not None:
        mask = gather_rows(there)
        first, second = first[mask], second[mask]
    if len(first) < 2:
        return (first.sum() + second.sum()) * 0.0
    similarity = first @ second.T / temperature
    own = torch.arange(len(first), device=first.device)
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


@torch.no_grad()
def cluster_codes(codebook: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Clusters of equal size over a codebook's vectors, for `diversity`: ``(codes,)`` int64."""
    clusters = min(clusters, len(codebook))
    centroids = kmeans(codebook, clusters, 10, generator)
    return assign_evenly(torch.cdist(codebook.float(), centroids).square())


def diversity(codebook: Tensor, codes: Tensor, clusters: Tensor, draws: Tensor) -> Tensor:
    """LETTER's diversity term (arXiv 2405.07314, equation 5): a code is near one of its cluster and far from the rest.

    ``-log(exp⟨e, e₊⟩ / Σ_{j≠e} exp⟨e, e_j⟩)`` for the code e of every item, with e₊ another code of e's cluster.

    Args:
        codebook: ``(codes, dim)``.
        codes: ``(batch,)`` the items' codes.
        clusters: ``(codes,)`` from `cluster_codes`.
        draws: ``(batch,)`` uniform in [0, 1), choose e₊.

    Returns:
        0-d mean over the items whose cluster has another code; 0 where none has.
    """
    same = clusters[codes][:, None] == clusters[None, :]  # (batch, codes)
    own = torch.arange(len(codebook), device=codebook.device)[None, :] == codes[:, None]
    others = same & ~own
    counts = others.sum(dim=1)
    place = (draws * counts).long()  # (batch,) which of them, counted from 0
    positive = ((others.cumsum(dim=1) > place[:, None]) & others).int().argmax(dim=1)
    logits = (codebook[codes] @ codebook.T).masked_fill(own, float("-inf"))
    losses = F.cross_entropy(logits, positive, reduction="none")
    some = counts > 0
    return torch.where(some, losses, 0.0).sum() / some.sum().clamp_min(1)
