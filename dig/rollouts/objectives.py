"""What is learned from rewards: advantages within groups, and the clipped objectives of the GRPO family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dig.config.schema import OBJECTIVES

__all__ = ["PolicyLoss", "group_advantages", "has_variance", "policy_objective", "term_advantages"]


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


@dataclass(frozen=True)
class PolicyLoss:
    """The loss and what tells whether learning is alive.

    Attributes:
        loss: 0-d, with its graph.
        kl: 0-d mean KL divergence from the reference per rollout, detached; 0 without a reference.
        clip_ratio: 0-d share of ratios that were clipped, detached.
        ratio: 0-d mean ratio, detached.
    """

    loss: Tensor
    kl: Tensor
    clip_ratio: Tensor
    ratio: Tensor


def policy_objective(
    log_probs: Tensor,
    old_log_probs: Tensor,
    reference_log_probs: Tensor | None,
    advantages: Tensor,
    clip_range: float | None = 0.2,
    kl_weight: float = 1e-3,
    objective: str = "sequence",
    clip_range_high: float | None = None,
    present: Tensor | None = None,
) -> PolicyLoss:
    """−E[min(ρA, clip(ρ, 1−ε, 1+ε_high)A) − β·KL]; the objectives differ in the ratio ρ and in what E is.

    With T_k tokens of rollout k, ρ_kt the ratio of one token and N rollouts:

    - ``sequence``: ρ_k = Π_t ρ_kt, the mean over rollouts (DeepInterestGR, arXiv 2602.18907; the KL is summed).
    - ``grpo``: ρ_kt, the mean over a rollout's tokens, then over rollouts (DeepSeekMath, arXiv 2402.03300, eq. 3).
    - ``dr_grpo``: ρ_kt, the sum over a rollout's tokens by the constant number of levels, then the mean over rollouts
      (arXiv 2503.20783), so that short answers weigh no more; goes with advantages that are not scaled.
    - ``dapo``: ρ_kt, the mean over all tokens of the batch (arXiv 2503.14476, eq. 8); goes with ``clip_range_high``.
    - ``gspo``: ρ_k = (Π_t ρ_kt)^(1/T_k), the mean over rollouts (arXiv 2507.18071, eq. 7).

    The KL divergence is Schulman's k3 estimator, r − log r − 1 with r = π_ref/π, token by token.

    Args:
        log_probs: (batch, group, levels) under the policy, 0 at levels that an item lacks.
        old_log_probs: the same under the policy that sampled, without graph.
        reference_log_probs: the same under the reference, without graph; None leaves the divergence out.
        advantages: (batch, group).
        clip_range: ε; None clips nothing (MiniOneRec).
        kl_weight: β.
        objective: see above.
        clip_range_high: ε above 1, None for the same as below (DAPO's "clip higher").
        present: (batch, group, levels) which levels an item has; None for all.

    Raises:
        ValueError: an unknown objective.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"the objectives are {', '.join(OBJECTIVES)}, not {objective!r}")
    mask = torch.ones_like(log_probs) if present is None else present.to(log_probs.dtype)
    tokens = mask.sum(dim=-1)  # (batch, group)
    difference = (log_probs - old_log_probs) * mask
    if objective == "sequence":
        ratio = difference.sum(dim=-1).exp()
    elif objective == "gspo":
        ratio = (difference.sum(dim=-1) / tokens).exp()
    else:
        ratio, advantages = difference.exp(), advantages.unsqueeze(-1)
    surrogate, outside = _clipped(ratio, advantages, clip_range, clip_range_high)
    kl = torch.zeros_like(mask)
    if reference_log_probs is not None:
        log_ratio = (reference_log_probs - log_probs) * mask
        kl = log_ratio.exp() - log_ratio - 1.0
    if objective == "sequence":
        gain = surrogate - kl_weight * kl.sum(dim=-1)
    elif objective == "gspo":
        gain = surrogate - kl_weight * kl.sum(dim=-1) / tokens
    else:
        by_token = ((surrogate - kl_weight * kl) * mask).sum(dim=-1)
        gain = by_token / _divisor(objective, tokens, mask.shape[-1])
    weights = torch.ones_like(ratio) if ratio.ndim == 2 else mask
    share = lambda values: (values.detach() * weights).sum() / weights.sum()  # noqa: E731
    return PolicyLoss(-gain.mean(), kl.detach().sum(dim=-1).mean(), share(outside), share(ratio))


def _divisor(objective: str, tokens: Tensor, levels: int) -> Tensor | float:
    """What a rollout's sum over tokens is divided by, before the mean over rollouts."""
    if objective == "dapo":
        return tokens.mean()  # with the mean over rollouts: the sum over all tokens by their number
    return float(levels) if objective == "dr_grpo" else tokens


def _clipped(ratio: Tensor, advantages: Tensor, low: float | None, high: float | None) -> tuple[Tensor, Tensor]:
    """min(ρA, clip(ρ)A), and where the clip had a say."""
    plain = ratio * advantages
    if low is None:
        return plain, torch.zeros_like(ratio)
    bounded = ratio.clamp(1.0 - low, 1.0 + (low if high is None else high)) * advantages
    return torch.minimum(plain, bounded), (bounded < plain).float()
