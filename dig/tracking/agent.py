"""A sweep's agent: it starts the process, names the one W&B run that is the trial, and reads its metric there."""

from __future__ import annotations

import os
from pathlib import Path

from dig.engine.artifacts import read_json

__all__ = ["PLAIN", "trial", "trial_metrics"]

PLAIN = "valid/"
"""In a trial's one W&B run the metrics of a stage stand behind its name; what begins so also stands for itself, since
sweeps name `valid/ndcg@10`."""
_POLICIES = ("sft", "grpo")


def trial() -> str | None:
    """The W&B run id that `wandb agent` gave this process; None where no agent started it."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def trial_metrics(stages: dict[str, Path]) -> dict[str, float]:
    """The validation of the policy that a trial ends with, also where it was trained before and comes from the cache.

    Args:
        stages: the folder of each finished stage's artifact.
    """
    for stage in reversed(_POLICIES):
        path = stages[stage] / "training.json" if stage in stages else None
        if path is not None and path.is_file():
            return {
                name: value
                for name, value in read_json(path).items()
                if name.startswith(PLAIN) and isinstance(value, float)
            }
    return {}
