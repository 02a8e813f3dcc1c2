"""The weighted sum of reward terms, after a look at whether each is a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dig.rollouts.rewards.groups import Groups
from dig.rollouts.rewards.knowledge import ItemKnowledge
from dig.rollouts.rewards.registry import REWARD_TERMS

__all__ = ["Reward", "total_reward"]


@dataclass(frozen=True)
class Reward:
    """A reward and what it consists of, all (batch, group) and already weighted."""

    total: Tensor
    terms: dict[str, Tensor]


def total_reward(groups: Groups, known: ItemKnowledge, weights: Mapping[str, float]) -> Reward:
    """Σ weight · term over the terms with a weight above 0.

    Args:
        groups: the rollouts.
        known: what is known of items.
        weights: by the term's name.

    Raises:
        KeyError: there is no such term, or it needs what is not known.
        ValueError: a term has another shape than (batch, group), or is no number (which term, which item).
    """
    terms = {}
    for name, weight in weights.items():
        if weight:
            found = REWARD_TERMS[name].function(groups, known)
            _check(name, found, groups, known)
            terms[name] = weight * found
    nothing = torch.zeros(groups.items.shape, device=groups.items.device)
    return Reward(torch.stack([nothing, *terms.values()]).sum(dim=0), terms)


def _check(name: str, found: Tensor, groups: Groups, known: ItemKnowledge) -> None:
    if found.shape != groups.items.shape:
        raise ValueError(f"the reward term {name} is {tuple(found.shape)}, but the rollouts are "
                         f"{tuple(groups.items.shape)}")  # fmt: skip
    broken = ~torch.isfinite(found)
    if broken.any():
        prompt, rollout = broken.nonzero()[0].tolist()
        item, target = int(groups.items[prompt, rollout]), int(groups.targets[prompt])
        value = found[prompt, rollout].item()
        raise ValueError(f"the reward term {name} is {value} for {known.name_of(item)} where {known.name_of(target)} "
                         "was wanted")  # fmt: skip
