"""Says in words when reinforcement learning has stopped learning."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from dig.console import warn

__all__ = ["RolloutHealth"]


class RolloutHealth(Callback):
    """Warns once for each way in which GRPO stalls.

    Args:
        dead_share: groups without variance above this share teach nothing.
        max_kl: a divergence from the reference above this has run away.
        patience: batches in a row before a warning.
    """

    def __init__(self, dead_share: float = 0.95, max_kl: float = 5.0, patience: int = 10) -> None:
        self.limits = {"rollout/dead_groups": dead_share, "train/kl": max_kl}
        self.patience = patience
        self._streaks = dict.fromkeys(self.limits, 0)
        self._said: set[str] = set()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts batches over a limit."""
        for name, limit in self.limits.items():
            value = trainer.callback_metrics.get(name)
            self._streaks[name] = self._streaks[name] + 1 if value is not None and float(value) > limit else 0
            if self._streaks[name] == self.patience and name not in self._said:
                self._said.add(name)
                warn(_STORIES[name].format(value=float(value), count=self.patience))  # type: ignore[arg-type]


_STORIES = {
    "rollout/dead_groups": "{value:.0%} of the groups had equal rewards in the last {count} batches, so almost nothing "
    "is learned; raise grpo.group_size, grpo.temperature, grpo.dynamic_sampling or a graded reward "
    "(grpo.reward.prefix, grpo.reward.similarity)",
    "train/kl": "the policy has moved far from the reference (KL {value:.1f} for {count} batches); lower "
    "grpo.learning_rate or raise grpo.kl_weight",
}
