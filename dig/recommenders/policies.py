"""SFT and GRPO as recommenders: what is said of them where they stand beside the baselines.

Their settings and stages are the method's own (``dig/config/sections``, ``dig/stages``).
"""

from __future__ import annotations

from typing import Any

from dig.config.recommenders import RecommenderSpec

__all__ = ["SPECS"]

_UPDATES = ("kl", "entropy", "clip_ratio", "ratio")
_ROLLOUTS = ("reward", "hits", "groups_with_hit", "frac_reward_zero_std", "unique_fraction", "nll")


def _grpo_logs(config: Any) -> list[str]:
    rewards = [f"reward_{name}" for name, weight in config.grpo.reward.weights.items() if weight]
    return [*(f"train/{each}" for each in _UPDATES), *(f"rollout/{each}" for each in (*_ROLLOUTS, *rewards))]


SPECS: tuple[RecommenderSpec[Any], ...] = (
    RecommenderSpec(
        name="sft",
        title="SFT",
        stage="dig.stages.sft:STAGE",
        loader="dig.recommender.policy:load",
        needs=("prepare", "tokenize"),
        samples=lambda config: int(config.sft.batch_size),
        colour=4,
        baseline=False,
    ),
    RecommenderSpec(
        name="grpo",
        title="GRPO",
        stage="dig.stages.grpo:STAGE",
        loader="dig.recommender.policy:load",
        needs=("prepare", "label", "tokenize", "sft"),
        logs=_grpo_logs,
        samples=lambda config: int(config.grpo.prompts_per_step // config.grpo.minibatches),
        colour=5,
        baseline=False,
    ),
)
