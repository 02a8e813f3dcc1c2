"""A reward term of your own: registered by a decorator, tried on rollouts made by hand, then trained with.

``python examples/own_reward.py [key=value …]``; keys are those of ``dig.train``.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from dig import load_config, run_experiment
from dig.rollouts import RewardContext, Rollouts, reward_term, total_reward


@reward_term("bargain", requires=("counts",))
def bargain(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """Pays the less bought half of the catalogue, wherever it is rolled out: (batch, group) numbers."""
    counts = context.get("counts")
    return (counts <= counts.median()).float()[rollouts.rows] * rollouts.valid


def main(overrides: list[str]) -> None:
    """Shows what the term pays, and trains with it."""
    context = RewardContext(counts=torch.tensor([50, 40, 3, 2]))  # how often each of four items was bought
    rollouts = Rollouts.of_items(items=torch.tensor([[0, 2, 3]]), targets=torch.tensor([3]))
    reward = total_reward(rollouts, context, {"hit": 1.0, "bargain": 0.25})
    for name, paid in reward.terms.items():
        print(f"{name:8}", paid.tolist())
    print("reward  ", reward.total.tolist())

    # The stage imports this file by its name, since ranks and jobs are processes of their own; its source is part of
    # the stage's fingerprint, so that a change of the term trains anew.
    terms = ["grpo.reward.modules=[own_reward]", "grpo.reward.extra.bargain=0.25"]
    run = run_experiment(load_config("quickstart", [*terms, *overrides]))
    for name in ("sft", "grpo"):
        numbers = run.metrics[name]["test"]
        print(f"{name:5} NDCG@10 {numbers['ndcg@10']:.4f}, popularity lift {numbers['popularity_lift@10']:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
