"""The reward terms that come with the project: each a pure function, unweighted, (batch, group) floats."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dig.rollouts.rewards.groups import Groups
from dig.rollouts.rewards.knowledge import ItemKnowledge
from dig.rollouts.rewards.registry import reward_term

__all__ = ["shared_prefix"]

POPULAR_SHARE = 0.1
"""The most popular tenth of the catalogue is no news to anybody (SMORL)."""


@reward_term("hit")
def hit(groups: Groups, known: ItemKnowledge) -> Tensor:
    """1 on the target itself (DeepInterestGR, arXiv 2602.18907)."""
    return groups.hits.float()


@reward_term("valid")
def valid(groups: Groups, known: ItemKnowledge) -> Tensor:
    """1 on a catalogue item (DeepInterestGR)."""
    return groups.valid.float()


@reward_term("prefix", needs=("codes",))
def prefix(groups: Groups, known: ItemKnowledge) -> Tensor:
    """LCP/L: share of leading codes that agree with the target's, the collision suffix left out (DeepInterestGR)."""
    codes = known.get("codes")
    shared = shared_prefix(codes[groups.rows], codes[groups.targets].unsqueeze(1))
    return shared.float() / codes.shape[1] * groups.valid


@reward_term("interest", needs=("quality",))
def interest(groups: Groups, known: ItemKnowledge) -> Tensor:
    """The target's interest quality q, on a hit alone (DeepInterestGR; its weight is α)."""
    return known.get("quality")[groups.targets].unsqueeze(1) * groups.hits


@reward_term("similarity", needs=("quality", "interests"))
def similarity(groups: Groups, known: ItemKnowledge) -> Tensor:
    """Cosine of the rollout's and the target's positive interests, cut at 0, times the target's q.

    A form of the interest-aware reward that pays a near miss; nothing where either has no positive interest.
    """
    vectors = known.get("interests")
    cosine = torch.einsum("bgd,bd->bg", vectors[groups.rows], vectors[groups.targets])
    return cosine.clamp(min=0.0) * known.get("quality")[groups.targets].unsqueeze(1) * groups.valid


@reward_term("rank")
def rank(groups: Groups, known: ItemKnowledge) -> Tensor:
    """-w_i/Σw with w_i = 1/log2(i + 2) on a miss at place i, in groups that hold the target (MiniOneRec,
    arXiv 2510.24431): the surer the policy was of a miss, the more it costs."""
    places = torch.arange(groups.items.shape[1], device=groups.items.device)
    weights = 1.0 / torch.log2(places + 2.0)
    penalty = -(weights / weights.sum())[groups.ranks]
    return penalty * (~groups.hits & groups.hits.any(dim=1, keepdim=True))


@reward_term("collaborative", needs=("sequential",))
def collaborative(groups: Groups, known: ItemKnowledge) -> Tensor:
    """What a frozen sequential model thinks of the rollout: 1 + log P(ŝ)/log N with N items, no less than -1.

    MiniOneRec pays the model's logits; so scaled, certainty pays 1 and what a uniform guess would say pays 0, whatever
    the model and the catalogue. Nothing where a prompt has no history.
    """
    model = known.sequential
    if model is None:
        raise KeyError("the rewards were not told a sequential model")
    log_probs = model(groups.histories)
    scaled = 1.0 + log_probs.gather(1, groups.rows) / math.log(max(log_probs.shape[1], 2))
    return scaled.clamp(min=-1.0) * groups.valid * (groups.histories >= 0).any(dim=1, keepdim=True)


@reward_term("diversity", needs=("vectors",))
def diversity(groups: Groups, known: ItemKnowledge) -> Tensor:
    """1 - cosine of the rollout's text and the latest item's (SMORL, arXiv 2110.15097); 0 without a history."""
    vectors = known.get("vectors")
    latest = groups.histories[:, -1]
    cosine = torch.einsum("bgd,bd->bg", vectors[groups.rows], vectors[latest.clamp(min=0)])
    return (1.0 - cosine) * groups.valid * (latest >= 0).unsqueeze(1)


@reward_term("novelty", needs=("counts",))
def novelty(groups: Groups, known: ItemKnowledge) -> Tensor:
    """1 on an item that is not among the most popular tenth of the catalogue (SMORL)."""
    counts = known.get("counts")
    above = counts.sort(descending=True).values[max(round(POPULAR_SHARE * len(counts)), 1) - 1]
    return (counts < above).float()[groups.rows] * groups.valid


@reward_term("unseen")
def unseen(groups: Groups, known: ItemKnowledge) -> Tensor:
    """1 on an item that the prompt's history does not hold; for shops where few things are bought twice."""
    held = (groups.items.unsqueeze(2) == groups.histories.unsqueeze(1)).any(dim=2)
    return (groups.valid & ~held).float()


def shared_prefix(codes: Tensor, target_codes: Tensor) -> Tensor:
    """Number of leading levels at which codes (…, levels) and target codes (…, levels) agree."""
    return (codes == target_codes).long().cumprod(dim=-1).sum(dim=-1)
