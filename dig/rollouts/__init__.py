"""GRPO's room: how groups are rolled out, judged and learned from."""

from typing import TYPE_CHECKING

from dig.lazy import lazy_names
from dig.rollouts.advantages import group_advantages, term_advantages
from dig.rollouts.objectives import PolicyLoss, policy_objective
from dig.rollouts.rewards import (
    REWARD_TERMS,
    Groups,
    ItemKnowledge,
    Reward,
    interest_aware_reward,
    reward_term,
    total_reward,
)

if TYPE_CHECKING:
    from dig.rollouts.loop import install_group_rollouts

__all__ = [
    "REWARD_TERMS",
    "Groups",
    "ItemKnowledge",
    "PolicyLoss",
    "Reward",
    "group_advantages",
    "install_group_rollouts",
    "interest_aware_reward",
    "policy_objective",
    "reward_term",
    "term_advantages",
    "total_reward",
]

__getattr__ = lazy_names(__name__, {"install_group_rollouts": "loop"})  # which is built on lightning
