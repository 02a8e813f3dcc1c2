"""What EIMF learns beside the next item: losses over interests and explicit heads."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dig.evaluation.rankers import padded_rows
from dig.interests.profiles import ExplicitInterests
from dig.modules.losses import catalogue_cross_entropy, states_at_once
from dig.recommenders.eimf import EIMFConfig

__all__ = [
    "ExplicitHeads",
    "KnownUsers",
    "Texts",
    "alignment_loss",
    "nearest_behaviour",
    "semantic_loss",
    "best_interests",
    "interest_cross_entropy",
    "shared_cross_entropy",
]


class ExplicitHeads(nn.Module):
    """From interests of behaviour to where texts lie: a linear map that aligns, a small network that predicts.

    A head whose weight is 0 is not there.

    Args:
        config: weights, width, temperature.
        dim: of the texts' vectors.
    """

    def __init__(self, config: EIMFConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        width, weights = config.hidden_size, config.explicit_losses
        self.align = nn.Linear(width, dim) if "alignment" in weights else None
        self.predict = (
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim)) if "semantic" in weights else None
        )

    def losses(self, interests: Tensor, texts: Texts) -> dict[str, Tensor]:
        """Weighted losses by name of interests (users, K, width)."""
        losses = {}
        if self.predict is not None:
            predicted = F.normalize(self.predict(interests).float(), dim=-1)
            losses["semantic"] = self.config.semantic_weight * semantic_loss(predicted, texts)
        if self.align is not None:
            aligned = F.normalize(self.align(interests).float(), dim=-1)
            loss = alignment_loss(aligned, texts, self.config.temperature)
            losses["alignment"] = self.config.alignment_weight * loss
        return losses

    def idle(self) -> Tensor:
        """0, with every weight in its graph: ranks share the gradients of all weights from the first step on."""
        return 0.0 * torch.stack([weight.sum() for weight in self.parameters()]).sum()


@dataclass(frozen=True)
class KnownUsers:
    """Customers whose interests are known in words, and what they bought.

    Attributes:
        explicit: interests in words of all customers.
        vectors: (phrases, dim) float32 of the text encoder.
        users: (known,) rows of the customers; each has an interest.
    """

    explicit: ExplicitInterests
    vectors: Tensor
    users: np.ndarray

    @property
    def histories(self) -> list[np.ndarray]:
        """(known,) catalogue rows."""
        return [self.explicit.histories[user] for user in self.users]

    def only(self, users: np.ndarray) -> KnownUsers:
        """Those with the given rows."""
        return replace(self, users=users)

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def _rows(self) -> Tensor:
        return padded_rows(self.histories)

    @cached_property
    def _texts(self) -> tuple[Tensor, Tensor]:
        texts = self.explicit.texts(self.users)
        return torch.from_numpy(texts.phrases), torch.from_numpy(texts.shares)

    @cached_property
    def _directions(self) -> Tensor:
        """Vectors without what all phrases of a shop have in common, which leaves their cosines room to differ."""
        return F.normalize(self.vectors - self.vectors.mean(dim=0), dim=-1)

    def batch(self, places: Tensor, device: torch.device) -> tuple[Tensor, Texts]:
        """Histories (batch, length) of users, given by their places, and their interests in words."""
        phrases, shares = (values[places] for values in self._texts)
        users, columns = (phrases >= 0).nonzero(as_tuple=True)
        rows = phrases[users, columns]
        texts = Texts(*(each.to(device) for each in (users, rows, self._directions[rows], shares[users, columns])))
        histories = self._rows[places]
        longest = int((histories >= 0).sum(dim=1).max())
        return histories[:, :longest].to(device), texts


@dataclass(frozen=True)
class Texts:
    """Interests in words of a batch of customers, one after the other.

    Attributes:
        users: (texts,) place in the batch of whose each is.
        phrases: (texts,) which phrase each is.
        vectors: (texts, dim) of the phrases, of length 1.
        shares: (texts,) weights.
    """

    users: Tensor
    phrases: Tensor
    vectors: Tensor
    shares: Tensor


def nearest_behaviour(behaviour: Tensor, texts: Tensor, users: Tensor) -> Tensor:
    """Of each text's customer, the interest from behaviour that points most nearly where the text does.

    Args:
        behaviour: (users, K, dim) of length 1.
        texts: (texts, dim) of length 1.
        users: (texts,) whose each is.

    Returns:
        (texts, dim), the first of equals; which one is chosen has no gradient.
    """
    own = behaviour[users]  # (texts, K, dim)
    with torch.no_grad():
        chosen = (own * texts.unsqueeze(1)).sum(dim=-1).argmax(dim=1)
    return own[torch.arange(len(users), device=users.device), chosen]


def alignment_loss(behaviour: Tensor, texts: Texts, temperature: float) -> Tensor:
    """InfoNCE in both directions between pairs, as CLIP's (arXiv 2103.00020), weighted by the texts' shares.

    The other texts of the same customer, and the same phrase of another, are not negatives: both may be right.

    Args:
        behaviour: (users, K, dim) of length 1.
        texts: of the users.
        temperature: cosines are divided by it.

    Returns:
        A 0-d tensor: ``Σ w_i (−log p(t_i | v_i) − log p(v_i | t_i)) / 2``, weights adding up to 1.
    """
    matched = nearest_behaviour(behaviour, texts.vectors, texts.users)
    logits = matched @ texts.vectors.T / temperature
    alike = (texts.users.unsqueeze(1) == texts.users) | (texts.phrases.unsqueeze(1) == texts.phrases)
    alike.fill_diagonal_(False)
    logits = logits.masked_fill(alike, float("-inf"))
    labels = torch.arange(len(logits), device=logits.device)
    both = F.cross_entropy(logits, labels, reduction="none") + F.cross_entropy(logits.T, labels, reduction="none")
    return (both * texts.shares).sum() / (2 * texts.shares.sum())


def semantic_loss(predicted: Tensor, texts: Texts) -> Tensor:
    """How far what behaviour predicts is from each text: ``Σ w_i (1 − cos)``, weights adding up to 1.

    Args:
        predicted: (users, K, dim) of length 1, a prediction per interest; the nearest counts.
        texts: of the users.

    Returns:
        A 0-d tensor between 0 and 2.
    """
    matched = nearest_behaviour(predicted, texts.vectors, texts.users)
    cosines = (matched * texts.vectors).sum(dim=-1)
    return ((1 - cosines) * texts.shares).sum() / texts.shares.sum()


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
    :func:`~dig.modules.losses.catalogue_cross_entropy`.

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
            chunk, rivals, labels = best[rows].to(kind), others[rows].to(kind).flatten(0, 1), targets[rows, None]
            logits, against = (chunk @ table.T).float(), (rivals @ sampled.T).float().view(len(chunk), -1) + weight
            highest = torch.maximum(logits.amax(dim=1, keepdim=True), against.amax(dim=1, keepdim=True))
            target = logits.gather(1, labels) - highest
            shares, lost = logits.sub_(highest).exp_(), against.sub_(highest).exp_()
            mass = shares.sum(dim=1, keepdim=True) + lost.sum(dim=1, keepdim=True)
            total += (mass.log() - target).sum()
            shares.div_(mass * count).scatter_add_(1, labels, torch.full_like(target, -1.0 / count))
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
