"""GRPO's room: the group rollout loop, rewards and objectives."""

from dig.rollouts.objectives import PolicyLoss, group_advantages, policy_objective
from dig.rollouts.rewards import Reward, interest_aware_reward

__all__ = ["PolicyLoss", "Reward", "group_advantages", "interest_aware_reward", "policy_objective"]
