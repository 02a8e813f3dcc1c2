"""SFTModule: supervised fine-tuning of a causal language model on the next item's Semantic ID."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dig.config.schema import EvaluationConfig, SFTConfig
from dig.generation.backbone import Backbone
from dig.generation.decoder import Decoder
from dig.generation.intrr import IntRR
from dig.modules.dropout import add_dropout
from dig.modules.intrr_loss import intrr_losses
from dig.modules.new_rows import keep_new_rows_alone
from dig.modules.policy import PolicyModule
from dig.modules.token_loss import next_token_loss

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
        alignment: weight λ of the alignment of an IntRR.
    """

    def __init__(
        self,
        backbone: Backbone,
        item_tokens: Tensor,
        config: SFTConfig,
        evaluation: EvaluationConfig,
        alignment: float = 0.0,
    ) -> None:
        super().__init__(backbone, item_tokens, config, evaluation)
        self.label_smoothing = config.label_smoothing
        self.levels = backbone.vocabulary if config.softmax == "level" else None
        self.new_rows_steps = config.new_rows_steps
        self.alignment = alignment
        if not backbone.one_token:  # which has dropout of its own
            add_dropout(self.model, config.dropout if backbone.from_scratch else 0.0)

    def training_step(self, batch: TrainingTokens) -> Tensor:
        """Weighted cross-entropy of the supervised tokens, or of an IntRR's codes."""
        if isinstance(self.model, IntRR):
            return self._one_token_loss(self.model, batch) * self._weight_of_rank(batch)
        loss = self.computed(next_token_loss, Decoder.of(self.model), batch, self.label_smoothing, self.levels)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.samples))
        return loss * self._weight_of_rank(batch)

    def _one_token_loss(self, model: IntRR, batch: TrainingTokens) -> Tensor:
        """Rows of a batch are histories of items, one a row; the last of each is a target alone."""
        there = batch.attention_mask[:, :-1] > 0
        targets = batch.labels[:, 1:]
        learned = there & (targets >= 0)
        histories = torch.where(there & batch.attention_mask[:, 1:].bool(), batch.input_ids[:, :-1], -1)
        losses, alignment = intrr_losses(model, self.trie, histories, torch.where(learned, targets, -1))
        loss = (losses * batch.weights[:, 1:][learned]).sum() / batch.responses
        values = {"train/loss": loss, "train/alignment": alignment}
        self.log_dict(values, prog_bar=True, batch_size=len(batch.samples))
        return loss + self.alignment * alignment

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
