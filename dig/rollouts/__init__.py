"""GRPO's room: how groups are rolled out, judged and learned from."""

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

__all__ = [
    "REWARD_TERMS",
    "Groups",
    "ItemKnowledge",
    "PolicyLoss",
    "Reward",
    "group_advantages",
    "interest_aware_reward",
    "policy_objective",
    "reward_term",
    "term_advantages",
    "total_reward",
]
