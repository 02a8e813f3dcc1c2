"""The group rollout loop: one batch of prompts becomes group rollouts, then ordinary optimiser steps of Lightning.

Lightning keeps its loops half private, so this file holds the seam and nothing else. The smallest is the epoch loop's
``automatic_optimization``: its ``run`` gets a batch and takes one optimiser step. Ours gets a batch of prompts, asks
the module for rollouts, and calls the parent's ``run`` for every minibatch of them. So precision, clipping,
accumulation, strategies and callbacks stay Lightning's. The minor version of Lightning is pinned, and a contract test
guards the seam.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import lightning
import torch
from lightning.pytorch.loops.optimization.automatic import _AutomaticOptimization
from torch.optim import Optimizer

__all__ = ["GroupRolloutLoop", "install_group_rollouts"]


class GroupRolloutLoop(_AutomaticOptimization):
    """Prompts → rollouts → ``updates_per_rollout`` passes over ``minibatches``, an optimiser step each.

    The LightningModule has these two numbers and ``rollout(batch) -> Rollouts``.
    """

    def run(self, optimizer: Optimizer, batch_idx: int, kwargs: OrderedDict) -> dict[str, Any]:
        """Takes all optimiser steps of one batch of prompts; returns the outputs of the last."""
        module: Any = self.trainer.lightning_module
        with self.trainer.precision_plugin.train_step_context(), torch.no_grad():
            rollouts = module.rollout(kwargs["batch"])
        output: dict[str, Any] = {}
        for _ in range(module.updates_per_rollout):
            for minibatch in rollouts.minibatches(module.minibatches):
                if 0 <= self.trainer.max_steps <= self.trainer.global_step:
                    return output
                inner = OrderedDict(kwargs)
                inner["batch"] = minibatch
                output = super().run(optimizer, batch_idx, inner)
        return output


def install_group_rollouts(trainer: lightning.Trainer) -> None:
    """Puts the loop into a trainer; call it before ``fit``."""
    trainer.fit_loop.epoch_loop.automatic_optimization = GroupRolloutLoop(trainer)
