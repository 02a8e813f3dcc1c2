"""What the next item teaches several interests: a softmax over the catalogue, alone or with the interests as rivals."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dig.modules.catalogue_loss import catalogue_cross_entropy, states_at_once

__all__ = ["best_interests", "interest_cross_entropy", "shared_cross_entropy"]


def best_interests(interests: Tensor, table: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The interest that fits each target best: the hard read-out of ComiRec (arXiv 2005.09347, equation 8).

    Args:
        interests: (targets, K, width).
        table: (items, width) the output layer.
        targets: (targets,) item rows.

    Returns:
        (targets, width), the first of interests that fit alike, and (targets, K - 1, width) the others in their order;
        which one is chosen has no gradient.
    """
    with torch.no_grad():
        chosen = (interests * table[targets].unsqueeze(1)).sum(dim=-1).argmax(dim=1)
    number, count, width = interests.shape
    best = interests[torch.arange(number, device=chosen.device), chosen]
    left = torch.arange(count, device=chosen.device) != chosen.unsqueeze(1)
    return best, interests[left].view(number, count - 1, width)


def interest_cross_entropy(best: Tensor, others: Tensor, items: Tensor, targets: Tensor, readout: str) -> Tensor:
    """Mean cross-entropy of targets, read out as ``eimf.readout`` says.

    ``hard`` trains the interest that fits best as if it were alone, as ComiRec (arXiv 2005.09347) does. The target
    chooses it, though, and recommending knows no target: an interest that is never chosen for an item may rank it as
    high as it likes. ``shared`` therefore lets the other interests take part in the denominator
    (:func:`shared_cross_entropy`), on a sample of the catalogue that makes this as dear as the softmax itself.

    Args:
        best: (targets, width) the interest that fits each target best.
        others: (targets, K - 1, width) the other interests of the same histories.
        items: (items, width) the output layer.
        targets: (targets,) item rows.
        readout: ``hard`` or ``shared``; with one interest they are the same.
    """
    if readout == "hard" or not others.shape[1]:
        return catalogue_cross_entropy(best, items, targets)
    sample = torch.randperm(len(items))[: -(-len(items) // others.shape[1])].to(items.device)
    return shared_cross_entropy(best, others, items, targets, sample)


def shared_cross_entropy(best: Tensor, others: Tensor, items: Tensor, targets: Tensor, sample: Tensor) -> Tensor:
    """Mean of ``log(Σ_i exp(b·i) + r Σ_o Σ_{j in sample} exp(o·j)) − b·target``, r the items over those of the sample.

    With the whole catalogue as the sample, it is the softmax over all pairs of an interest and an item. Logits and both
    gradients of a few targets are computed while they are at hand, as in
    :func:`~dig.modules.catalogue_loss.catalogue_cross_entropy`.

    Args:
        best: (targets, width).
        others: (targets, others, width).
        items: (items, width).
        targets: (targets,) item rows.
        sample: (sample,) item rows, each once.

    Returns:
        A 0-d float32 tensor; 0 without targets.
    """
    return _SharedLoss.apply(best, others, items, targets, sample)


class _SharedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, best: Tensor, others: Tensor, items: Tensor, targets: Tensor, sample: Tensor) -> Tensor:
        device = best.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else best.dtype
        table, count = items.to(kind), max(len(best), 1)
        sampled, weight = table[sample], math.log(len(items) / len(sample))
        total = best.new_zeros((), dtype=torch.float32)
        of_best, of_others = torch.empty_like(best, dtype=torch.float32), torch.empty_like(others, dtype=torch.float32)
        of_items = torch.zeros_like(items, dtype=torch.float32)
        of_sampled = torch.zeros_like(sampled, dtype=torch.float32)
        size = states_at_once(device)
        for start in range(0, len(best), size):
            rows = slice(start, start + size)
            chunk, rivals, wanted = best[rows].to(kind), others[rows].to(kind).flatten(0, 1), targets[rows, None]
            logits, against = (chunk @ table.T).float(), (rivals @ sampled.T).float().view(len(chunk), -1) + weight
            highest = torch.maximum(logits.amax(dim=1, keepdim=True), against.amax(dim=1, keepdim=True))
            target = logits.gather(1, wanted) - highest
            shares, lost = logits.sub_(highest).exp_(), against.sub_(highest).exp_()
            mass = shares.sum(dim=1, keepdim=True) + lost.sum(dim=1, keepdim=True)
            total += (mass.log() - target).sum()
            shares.div_(mass * count).scatter_add_(1, wanted, torch.full_like(target, -1.0 / count))
            slopes, losses = shares.to(kind), lost.div_(mass * count).view(len(rivals), -1).to(kind)
            of_best[rows] = slopes @ table
            of_others[rows] = (losses @ sampled).view(of_others[rows].shape).float()
            of_items += slopes.T @ chunk
            of_sampled += losses.T @ rivals
        ctx.save_for_backward(of_best, of_others, of_items.index_add_(0, sample, of_sampled))
        ctx.kinds = best.dtype, others.dtype, items.dtype
        return total / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (saved * grads[0] for saved in ctx.saved_tensors)
        return (*(each.to(kind) for each, kind in zip(gradients, ctx.kinds, strict=True)), None, None)
