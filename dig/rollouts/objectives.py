"""GRPO's advantages and objective, as pure functions of tensors (DeepSeekMath, arXiv 2402.03300, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["PolicyLoss", "group_advantages", "policy_objective"]


@dataclass(frozen=True)
class PolicyLoss:
    """The loss and what tells whether learning is alive.

    Attributes:
        loss: 0-d, with its graph.
        kl: 0-d mean KL divergence from the reference a rollout, detached.
        clip_share: 0-d share of rollouts whose ratio was clipped, detached.
        ratio: 0-d mean ratio, detached.
    """

    loss: Tensor
    kl: Tensor
    clip_share: Tensor
    ratio: Tensor


def group_advantages(rewards: Tensor, epsilon: float = 1e-6) -> Tensor:
    """(R − mean) / (population standard deviation + ε) within each group.

    Args:
        rewards: (batch, group).
        epsilon: ε, 1e-6 in the paper. A group whose rewards are all equal gets zeros.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    # The mean of equal numbers may be off by a rounding, which the small deviation would blow up.
    equal = rewards.amax(dim=1, keepdim=True) == rewards.amin(dim=1, keepdim=True)
    centred = centred.masked_fill(equal, 0.0)
    return centred / (rewards.std(dim=1, correction=0, keepdim=True) + epsilon)


def policy_objective(
    log_probs: Tensor,
    old_log_probs: Tensor,
    reference_log_probs: Tensor,
    advantages: Tensor,
    clip_range: float = 0.2,
    kl_weight: float = 1e-3,
) -> PolicyLoss:
    """−mean[min(ρA, clip(ρ, 1−ε, 1+ε)A) − β·KL], with the ratio ρ on the whole sequence.

    The KL divergence is Schulman's k3 estimator, r − log r − 1 with r = π_ref/π, summed over the levels.

    Args:
        log_probs: (batch, group, levels) under the policy, 0 at levels that an item lacks.
        old_log_probs: the same under the policy that sampled, without graph.
        reference_log_probs: the same under the reference, without graph.
        advantages: (batch, group).
        clip_range: ε.
        kl_weight: β.
    """
    ratio = (log_probs - old_log_probs).sum(dim=-1).exp()
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    surrogate = torch.minimum(ratio * advantages, clipped * advantages)
    log_ratio = reference_log_probs - log_probs
    kl = (log_ratio.exp() - log_ratio - 1.0).sum(dim=-1)
    loss = -(surrogate - kl_weight * kl).mean()
    outside = (clipped * advantages < ratio * advantages).float()
    return PolicyLoss(loss, kl.detach().mean(), outside.detach().mean(), ratio.detach().mean())
