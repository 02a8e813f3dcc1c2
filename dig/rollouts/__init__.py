"""GRPO: how groups are rolled out, rewarded and learned from."""

from typing import TYPE_CHECKING, Any

from dig.engine.lazy import lazy_names
from dig.rollouts.objectives import PolicyLoss, group_advantages, policy_objective, term_advantages
from dig.rollouts.record import Rollouts
from dig.rollouts.rewards import (
    REWARD_TERMS,
    Reward,
    RewardContext,
    interest_aware_reward,
    reward_term,
    total_reward,
)

if TYPE_CHECKING:
    from dig.rollouts.loop import install_group_rollouts

__all__ = [
    "REWARD_TERMS",
    "PolicyLoss",
    "Reward",
    "RewardContext",
    "Rollouts",
    "group_advantages",
    "install_group_rollouts",
    "interest_aware_reward",
    "policy_objective",
    "reward_term",
    "term_advantages",
    "total_reward",
]

_RENAMED = {"Groups": "Rollouts", "ItemKnowledge": "RewardContext"}
_lazy_name = lazy_names(__name__, {"install_group_rollouts": "loop"})  # which is built on lightning


def __getattr__(name: str) -> Any:
    """Names the new name of an earlier one, which somebody's reward terms may import."""
    if name in _RENAMED:
        raise ImportError(f"dig.rollouts.{name} is called {_RENAMED[name]} now")
    return _lazy_name(name)
