"""How several interests are drawn from a history: self-attentive pooling and dynamic routing, after every item at once.

Both take the states of histories and ``ages``: which of them each reading of a history sees, and how many items ago.
Reading a history after every item is a triangle, reading it once, at its end, is a row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dig.recommenders.eimf import EIMFConfig

__all__ = ["DynamicRouting", "SelfAttentive", "ages_after_every_item", "ages_at_the_end", "build_extraction", "squash"]


def ages_after_every_item(length: int, device: torch.device | None = None) -> Tensor:
    """(1, length, length): at place p the item at place s is ``p − s`` items old, -1 where it has yet to come."""
    places = torch.arange(length, device=device)
    return (places.unsqueeze(1) - places).clamp(min=-1).unsqueeze(0)


def ages_at_the_end(lengths: Tensor, longest: int) -> Tensor:
    """(batch, 1, longest): the last item of each history is 0 items old, -1 behind its end."""
    places = torch.arange(longest, device=lengths.device)
    return (lengths.unsqueeze(1) - 1 - places).clamp(min=-1).unsqueeze(1)


class SelfAttentive(nn.Module):
    """ComiRec-SA (arXiv 2005.09347, equation 7): each interest is a mean of states under weights of its own.

    Weights are a softmax over the states seen of ``w_k · tanh(W h)``, plus a learned value of the interest for the age
    of the item, which ComiRec lacks: its positions count from the start, so that it cannot tell what is recent. These
    values start as slopes of -1, -1/2, -1/4, … (ALiBi's, arXiv 2108.12409), so that interests begin with memories of
    different length.

    Args:
        width: of states and interests.
        hidden: width of W's result.
        interests: K.
        longest: items of a history at most.
    """

    def __init__(self, width: int, hidden: int, interests: int, longest: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden, bias=False)
        self.outer = nn.Linear(hidden, interests, bias=False)
        slopes = 0.5 ** torch.arange(interests).unsqueeze(1)
        self.recency = nn.Parameter(-slopes * torch.arange(longest))

    def forward(self, states: Tensor, ages: Tensor) -> Tensor:
        """Interests (batch, readings, K, width) of states (batch, length, width); ages (batch or 1, readings, length).

        A reading that sees nothing gets the mean of all states, zeros where histories are empty.
        """
        scores = self.outer(torch.tanh(self.inner(states))).transpose(1, 2).unsqueeze(1)  # (batch, 1, K, length)
        aged = self.recency[:, ages.clamp(min=0)].movedim(0, 2)  # (batch or 1, readings, K, length)
        scores = (scores + aged).masked_fill(ages.unsqueeze(2) < 0, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1).to(states.dtype)
        batch, readings, interests, length = weights.shape
        pooled = weights.reshape(batch, readings * interests, length) @ states
        return pooled.view(batch, readings, interests, -1)


class DynamicRouting(nn.Module):
    """MIND's behaviour-to-interest routing (arXiv 1904.08030, section 3.3) with ComiRec-DR's matrix per interest.

    Every state votes ``S_k h`` for interest k. Votes are shared out between the interests by a softmax of logits that
    start at 0; an interest is the squashed sum of its votes, and what agrees with it (inner product) votes more in the
    next round. Gradients flow through the last round alone, as in ComiRec's code. Matrices of their own tell interests
    apart, so that no random logits are needed and a history always has the same interests.

    Args:
        width: of states and interests.
        interests: K.
        iterations: rounds.
    """

    def __init__(self, width: int, interests: int, iterations: int) -> None:
        super().__init__()
        self.votes = nn.Linear(width, interests * width, bias=False)
        self.interests, self.iterations = interests, iterations

    def forward(self, states: Tensor, ages: Tensor) -> Tensor:
        """Interests (batch, readings, K, width) of states (batch, length, width); ages (batch or 1, readings, length).

        A reading that sees nothing has interests of 0.
        """
        batch, length, width = states.shape
        votes = self.votes(states).view(batch, length, self.interests, width).transpose(1, 2)  # (batch, K, length, w)
        with torch.no_grad():
            shares = self._route(votes.detach(), (ages >= 0).unsqueeze(1))
        return squash(shares @ votes).transpose(1, 2)

    def _route(self, votes: Tensor, seen: Tensor) -> Tensor:
        """Shares (batch, K, readings, length) of the last round."""
        batch, interests, length, _ = votes.shape
        logits = votes.new_zeros(batch, interests, seen.shape[2], length)
        for _ in range(self.iterations - 1):
            drafts = squash(_shares(logits, seen) @ votes)
            logits += drafts @ votes.transpose(-1, -2)
        return _shares(logits, seen)


def _shares(logits: Tensor, seen: Tensor) -> Tensor:
    return logits.softmax(dim=1).to(logits.dtype) * seen


def squash(vectors: Tensor) -> Tensor:
    """``|x|² / (1 + |x|²) · x / |x|``: the direction stays, the length lies below 1 (Sabour et al. 2017)."""
    squares = vectors.square().sum(dim=-1, keepdim=True)
    return vectors * (squares / (1 + squares) * (squares + 1e-9).rsqrt())


def build_extraction(config: EIMFConfig) -> SelfAttentive | DynamicRouting:
    """The extraction that a configuration names."""
    if config.extraction == "dynamic_routing":
        return DynamicRouting(config.hidden_size, config.interests, config.routing_iterations)
    return SelfAttentive(config.hidden_size, config.attention_size, config.interests, config.max_history)
