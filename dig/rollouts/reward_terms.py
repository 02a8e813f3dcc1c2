"""Reward terms beside the paper's four: each a pure function, unweighted, (batch, group) floats."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dig.rollouts.record import Rollouts
from dig.rollouts.rewards import RewardContext, reward_term

POPULAR_SHARE = 0.1
"""The most popular tenth of the catalogue is no news to anybody (SMORL)."""


@reward_term("similarity", requires=("quality", "interests"))
def similarity(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """Cosine of the rollout's and the target's positive interests, cut at 0, times the target's q.

    A form of the interest-aware reward that pays a near miss; nothing where either has no positive interest.
    """
    vectors = context.get("interests")
    cosine = torch.einsum("bgd,bd->bg", vectors[rollouts.rows], vectors[rollouts.targets])
    return cosine.clamp(min=0.0) * context.get("quality")[rollouts.targets].unsqueeze(1) * rollouts.valid


@reward_term("rank")
def rank(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """-w_i/Σw with w_i = 1/log2(i + 2) on a miss at place i, in groups that hold the target (MiniOneRec,
    arXiv 2510.24431): the surer the policy was of a miss, the more it costs."""
    places = torch.arange(rollouts.items.shape[1], device=rollouts.items.device)
    weights = 1.0 / torch.log2(places + 2.0)
    penalty = -(weights / weights.sum())[rollouts.ranks]
    return penalty * (~rollouts.hits & rollouts.hits.any(dim=1, keepdim=True))


@reward_term("collaborative", requires=("sequential",))
def collaborative(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """What a frozen sequential model thinks of the rollout: 1 + log P(ŝ)/log N with N items, no less than -1.

    MiniOneRec pays the model's logits; so scaled, certainty pays 1 and what a uniform guess would say pays 0, whatever
    the model and the catalogue. Nothing where a prompt has no history.
    """
    model = context.sequential
    if model is None:
        raise KeyError("the rewards were not given a sequential model")
    log_probs = model(rollouts.histories)
    scaled = 1.0 + log_probs.gather(1, rollouts.rows) / math.log(max(log_probs.shape[1], 2))
    return scaled.clamp(min=-1.0) * rollouts.valid * (rollouts.histories >= 0).any(dim=1, keepdim=True)


@reward_term("diversity", requires=("vectors",))
def diversity(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """1 - cosine of the rollout's text and the latest item's (SMORL, arXiv 2110.15097); 0 without a history."""
    vectors = context.get("vectors")
    latest = rollouts.histories[:, -1]
    cosine = torch.einsum("bgd,bd->bg", vectors[rollouts.rows], vectors[latest.clamp(min=0)])
    return (1.0 - cosine) * rollouts.valid * (latest >= 0).unsqueeze(1)


@reward_term("novelty", requires=("counts",))
def novelty(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """1 on an item that is not among the most popular tenth of the catalogue (SMORL)."""
    counts = context.get("counts")
    above = counts.sort(descending=True).values[max(round(POPULAR_SHARE * len(counts)), 1) - 1]
    return (counts < above).float()[rollouts.rows] * rollouts.valid


@reward_term("unseen")
def unseen(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """1 on an item that the prompt's history does not hold; for shops where few things are bought twice."""
    held = (rollouts.items.unsqueeze(2) == rollouts.histories.unsqueeze(1)).any(dim=2)
    return (rollouts.valid & ~held).float()
