"""Advantages: how much better a rollout is than the others of its group."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

__all__ = ["group_advantages", "has_variance", "term_advantages"]


def group_advantages(
    rewards: Tensor,
    epsilon: float = 1e-6,
    scale: str = "group",
    over_ranks: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Rewards without their group's mean, over a standard deviation. A group whose rewards are all equal gets zeros.

    Args:
        rewards: (batch, group).
        epsilon: ε, added to the deviation; 1e-6 in DeepInterestGR.
        scale: ``group``: (R - mean) / (population standard deviation + ε) within each group (GRPO, DeepSeekMath,
            arXiv 2402.03300, section 4.1); ``none``: R - mean (Dr. GRPO, arXiv 2503.20783: dividing favours groups that
            are nearly all alike); ``batch``: over the deviation of all groups of the batch together (REINFORCE++ with
            a group baseline, arXiv 2501.03262).
        over_ranks: the mean of a 0-d tensor over all processes, for ``batch``; None for one process.

    Raises:
        ValueError: an unknown scale.
    """
    # The mean of equal numbers may be off by a rounding, which a small deviation would blow up.
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    centred = centred.masked_fill(~has_variance(rewards).unsqueeze(1), 0.0)
    if scale == "none":
        return centred
    if scale == "group":
        return centred / (rewards.std(dim=1, correction=0, keepdim=True) + epsilon)
    if scale != "batch":
        raise ValueError(f"advantages are scaled by group, batch or none, not by {scale!r}")
    square = centred.square().mean()
    return centred / ((square if over_ranks is None else over_ranks(square)).sqrt() + epsilon)


def term_advantages(
    terms: Mapping[str, Tensor],
    weights: Mapping[str, float],
    epsilon: float = 1e-6,
    scale: str = "group",
    over_ranks: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Advantages of each reward term on its own, then their weighted sum (GDPO, arXiv 2601.05242, section 3).

    So a term that varies little is not drowned by one that varies much, and a group teaches as soon as any term varies.

    Args:
        terms: (batch, group) each, weighted or not: a factor above 0 makes no difference where ``scale`` divides.
        weights: of the advantages, by the term's name.
        epsilon: as in :func:`group_advantages`, as is the rest.
        scale: see there.
        over_ranks: see there.
    """
    parts = [weights[name] * group_advantages(term, epsilon, scale, over_ranks) for name, term in terms.items()]
    return torch.stack(parts).sum(dim=0)


def has_variance(rewards: Tensor) -> Tensor:
    """(batch,) whether the rewards (batch, group) of a group differ at all."""
    return rewards.amax(dim=1) > rewards.amin(dim=1)
