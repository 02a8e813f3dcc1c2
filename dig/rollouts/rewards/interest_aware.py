"""The interest-aware reward of DeepInterestGR as one function of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from dig.config.schema import RewardConfig
from dig.rollouts.rewards.groups import Groups
from dig.rollouts.rewards.knowledge import ItemKnowledge
from dig.rollouts.rewards.total import Reward, total_reward

__all__ = ["interest_aware_reward"]


def interest_aware_reward(
    items: Tensor, targets: Tensor, codes: Tensor, quality: Tensor, weights: RewardConfig
) -> Reward:
    """R(ŝ) = 1[hit] + λ_valid·1[valid] + λ_pref·LCP(ŝ, s*)/L + α·q_{i*}·1[hit] (DeepInterestGR, arXiv 2602.18907).

    A twin, another item with the target's codes and another suffix, earns its prefix but is no hit.

    Args:
        items: (batch, group) catalogue rows of the rollouts, -1 for a sequence that is no item.
        targets: (batch,) catalogue rows.
        codes: (items, levels) codes without the collision suffix.
        quality: (items,) interest quality q in [0, 1].
        weights: the weights of these four terms; others are not looked at.

    Raises:
        ValueError: for a quality that is not finite (which item).
    """
    if not torch.isfinite(quality).all():
        row = int((~torch.isfinite(quality)).nonzero()[0])
        raise ValueError(f"the interest quality of item row {row} is not finite")
    groups = Groups(items, targets, torch.zeros(items.shape, device=items.device), targets.unsqueeze(1))
    paper = {"hit": weights.hit, "valid": weights.valid, "prefix": weights.prefix, "interest": weights.interest}
    return total_reward(groups, ItemKnowledge(codes, quality), paper)
