"""SFTModule: supervised fine-tuning of a backbone on the next item's Semantic ID."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dig.config.schema import EvaluationConfig, SFTConfig
from dig.generation.backbone import Backbone
from dig.modules.dropout import add_dropout
from dig.modules.new_rows import keep_new_rows_alone
from dig.modules.policy import PolicyModule

if TYPE_CHECKING:
    from datamodules.packing import TrainingTokens

__all__ = ["SFTModule"]


class SFTModule(PolicyModule):
    """Learns to generate the next item, and whatever else its batches hold.

    Args:
        backbone: model and tokenizer.
        item_tokens: (items, levels) vocabulary ids, -1 for a missing suffix.
        config: the stage's settings.
        evaluation: cut-offs and beams of the validation.
    """

    stage, settings = "sft", SFTConfig

    def __init__(
        self, backbone: Backbone, item_tokens: Tensor, config: SFTConfig, evaluation: EvaluationConfig
    ) -> None:
        super().__init__(backbone, item_tokens, config, evaluation)
        self.config = config
        self.new_rows_steps = config.new_rows_steps
        add_dropout(self.model, backbone.missing_dropout(config))

    def training_step(self, batch: TrainingTokens) -> Tensor:
        """The loss of the backbone's kind."""
        loss, values = self.computed(self.backbone.supervised_loss, batch, self.trie, self.config)
        named = {f"train/{name}": value for name, value in values.items()}
        self.log_dict(named, prog_bar=True, batch_size=len(batch.samples))
        return loss * self._weight_of_rank(batch)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """At first the SID rows are trained alone."""
        if self.global_step < self.new_rows_steps:
            keep_new_rows_alone(self.model, self.backbone.vocabulary.ids)
        super().on_before_optimizer_step(optimizer)

    def _weight_of_rank(self, batch: TrainingTokens) -> Tensor | float:
        """Makes the mean over ranks, which is what DDP takes of gradients, one over all ranks' answers."""
        if self.trainer.world_size == 1:
            return 1.0
        count = batch.responses
        return count / self.trainer.strategy.reduce(count.clone(), reduce_op="mean")
