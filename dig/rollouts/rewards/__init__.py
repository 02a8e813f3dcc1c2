"""Rewards: terms by name, each a pure function of rollouts and of what is known of items, and their weighted sum."""

from dig.rollouts.rewards.groups import Groups
from dig.rollouts.rewards.interest_aware import interest_aware_reward
from dig.rollouts.rewards.knowledge import ItemKnowledge
from dig.rollouts.rewards.registry import REWARD_TERMS, RewardTerm, reward_term
from dig.rollouts.rewards.terms import shared_prefix
from dig.rollouts.rewards.total import Reward, call_term, total_reward

__all__ = [
    "REWARD_TERMS",
    "Groups",
    "ItemKnowledge",
    "Reward",
    "RewardTerm",
    "call_term",
    "interest_aware_reward",
    "reward_term",
    "shared_prefix",
    "total_reward",
]
