"""The interest-aware reward of DeepInterestGR, as pure functions of tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dig.config.schema import RewardConfig

__all__ = ["Reward", "interest_aware_reward", "shared_prefix"]


@dataclass(frozen=True)
class Reward:
    """A reward and what it consists of, all (batch, group) and already weighted."""

    total: Tensor
    terms: dict[str, Tensor]


def shared_prefix(codes: Tensor, target_codes: Tensor) -> Tensor:
    """Number of leading levels at which codes (…, levels) and target codes (…, levels) agree."""
    return (codes == target_codes).long().cumprod(dim=-1).sum(dim=-1)


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
        weights: the weight of each term.

    Raises:
        ValueError: for a quality that is not finite (which item).
    """
    if not torch.isfinite(quality).all():
        row = int((~torch.isfinite(quality)).nonzero()[0])
        raise ValueError(f"the interest quality of item row {row} is not finite")
    wanted = targets.unsqueeze(1)
    valid = (items >= 0).float()
    hit = (items == wanted).float()
    prefix = shared_prefix(codes[items.clamp(min=0)], codes[wanted]).float() / codes.shape[1] * valid
    terms = {
        "hit": weights.hit * hit,
        "valid": weights.valid * valid,
        "prefix": weights.prefix * prefix,
        "interest": weights.interest * quality[wanted] * hit,
    }
    return Reward(torch.stack(list(terms.values())).sum(dim=0), terms)
