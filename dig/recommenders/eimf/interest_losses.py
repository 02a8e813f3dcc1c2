"""What explicit interests teach: alignment of behaviour and text, and prediction of text from behaviour.

EIMF (arXiv 2411.09410) names both tasks; their formulas here are our reading. A *pair* is a customer's interest in
words with the interest from behaviour that is nearest to it; a customer has a pair for each interest in words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Texts", "alignment_loss", "nearest_behaviour", "semantic_loss"]


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

    The other texts of the same customer, and the same phrase of another, are no negatives: both may be right.

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
    wanted = torch.arange(len(logits), device=logits.device)
    both = F.cross_entropy(logits, wanted, reduction="none") + F.cross_entropy(logits.T, wanted, reduction="none")
    return (both * texts.shares).sum() / (2 * texts.shares.sum())


def semantic_loss(predicted: Tensor, texts: Texts) -> Tensor:
    """How far what behaviour predicts is from each text: ``Σ w_i (1 − cos)``, weights adding up to 1.

    Args:
        predicted: (users, K, dim) of length 1, a prediction an interest; the nearest counts.
        texts: of the users.

    Returns:
        A 0-d tensor between 0 and 2.
    """
    matched = nearest_behaviour(predicted, texts.vectors, texts.users)
    cosines = (matched * texts.vectors).sum(dim=-1)
    return ((1 - cosines) * texts.shares).sum() / texts.shares.sum()
