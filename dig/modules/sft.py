"""SFTModule: supervised fine-tuning of a backbone on the next item's Semantic ID."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from dig.config.schema import EvaluationConfig, SFTConfig
from dig.generation.backbone import Backbone
from dig.modules.dropout import add_dropout
from dig.modules.policy import PolicyModule

if TYPE_CHECKING:
    from datamodules.packing import TrainingTokens

__all__ = ["SFTModule", "keep_new_rows_alone"]


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


def keep_new_rows_alone(model: nn.Module, new_rows: Tensor) -> None:
    """Takes away the gradients of everything but the new rows, between backward and the optimiser's step.

    So a pretrained backbone does not unlearn in the first steps, while the rows of its new tokens say nothing yet.

    A weight without a gradient is left alone by AdamW, weight decay and moments included. In the embedding, where old
    and new rows share a weight, the old rows' gradients become 0; the embedding has no weight decay for a pretrained
    backbone, so they stay where they are.

    Args:
        model: a causal language model; with adapters, the new rows are parameters of their own.
        new_rows: (tokens,) ids of the new tokens.
    """
    if isinstance(model, PeftModel):
        for name, parameter in model.named_parameters():
            if "trainable_tokens" not in name:
                parameter.grad = None
        return
    causal: Any = model
    tables = {id(layer.weight) for layer in (causal.get_input_embeddings(), causal.get_output_embeddings()) if layer}
    for parameter in model.parameters():
        if id(parameter) not in tables:
            parameter.grad = None
        elif parameter.grad is not None:
            mask = torch.zeros(len(parameter), dtype=torch.bool, device=parameter.device)
            mask[new_rows.to(parameter.device)] = True
            parameter.grad[~mask] = 0.0
