"""The group rollout loop: one batch of prompts becomes group rollouts, then ordinary optimiser steps of Lightning.

Lightning keeps its loops half private. The smallest seam is the epoch loop's ``automatic_optimization``: its ``run``
gets a batch and takes one optimiser step. Ours gets a batch of prompts, asks the module for rollouts, and calls the
parent's ``run`` for every minibatch of them. So precision, clipping, accumulation, strategies and callbacks stay
Lightning's. The minor version of Lightning is pinned, and a contract test guards the seam.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import lightning
import torch
from lightning.pytorch.loops.optimization.automatic import _AutomaticOptimization
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["GroupRolloutLoop", "RolloutBatch", "install_group_rollouts"]


@dataclass
class RolloutBatch:
    """Rollouts with all that the update needs.

    Attributes:
        input_ids: (batch, prompt).
        attention_mask: (batch, prompt).
        items: (batch, group) catalogue rows.
        old_log_probs: (batch, group, levels) under the policy that sampled.
        reference_log_probs: (batch, group, levels), None without a reference.
        advantages: (batch, group).
    """

    input_ids: Tensor
    attention_mask: Tensor
    items: Tensor
    old_log_probs: Tensor
    reference_log_probs: Tensor | None
    advantages: Tensor

    def minibatches(self, count: int) -> Iterator[RolloutBatch]:
        """Cuts the prompts into ``count`` parts of nearly equal size, in order."""
        for part in torch.arange(len(self.items)).tensor_split(count):
            if len(part):
                yield self.take(slice(int(part[0]), int(part[-1]) + 1))

    def take(self, rows: slice | Tensor) -> RolloutBatch:
        """Some of the prompts."""
        found: dict[str, Any] = {}
        for entry in fields(self):
            values = getattr(self, entry.name)
            found[entry.name] = None if values is None else values[rows]
        return RolloutBatch(**found)

    @staticmethod
    def joined(parts: list[RolloutBatch]) -> RolloutBatch:
        """The prompts of all parts, whose prompts are equally wide."""
        if len(parts) == 1:
            return parts[0]
        found: dict[str, Any] = {}
        for entry in fields(RolloutBatch):
            values = [getattr(part, entry.name) for part in parts]
            found[entry.name] = None if values[0] is None else torch.cat(values)
        return RolloutBatch(**found)


class GroupRolloutLoop(_AutomaticOptimization):
    """Prompts → rollouts → ``updates_per_rollout`` passes over ``minibatches``, an optimiser step each.

    The LightningModule has these two numbers and ``rollout(batch) -> RolloutBatch``.
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
