"""SFTModule: supervised fine-tuning of a causal language model on the next item's Semantic ID."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from dig.config.schema import EvaluationConfig, SFTConfig
from dig.generation.backbone import Backbone
from dig.generation.decoder import Decoder
from dig.modules.policy import PolicyModule

if TYPE_CHECKING:
    from datamodules.prompts import TrainingTokens

__all__ = ["SFTModule", "next_token_loss"]


class SFTModule(PolicyModule):
    """Learns to generate the next item.

    Args:
        backbone: model and tokenizer.
        item_tokens: (items, levels) vocabulary ids, -1 for a missing suffix.
        config: the stage's settings.
        evaluation: cut-offs and beams of the validation.
    """

    def __init__(
        self, backbone: Backbone, item_tokens: Tensor, config: SFTConfig, evaluation: EvaluationConfig
    ) -> None:
        super().__init__(backbone, item_tokens, config, evaluation)
        self.label_smoothing = config.label_smoothing

    def training_step(self, batch: TrainingTokens) -> Tensor:
        """Cross-entropy of the supervised tokens."""
        loss = next_token_loss(Decoder(self.model), batch, self.label_smoothing)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.labels))
        return loss * self._weight_of_rank(batch)

    def _weight_of_rank(self, batch: TrainingTokens) -> Tensor | float:
        """Makes the mean over ranks, which is what DDP takes of gradients, one over all ranks' supervised tokens."""
        if self.trainer.world_size == 1:
            return 1.0
        count = (batch.labels[:, 1:] != -100).sum().float()
        return count / self.trainer.strategy.reduce(count.clone(), reduce_op="mean")


def next_token_loss(decoder: Decoder, batch: TrainingTokens, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the supervised tokens of a batch, softmax over the whole vocabulary.

    The output layer is computed at supervised positions only: with a large vocabulary the logits, not the weights,
    are what fills the memory.

    Args:
        decoder: the model.
        batch: tokens (rows, length), padded on the right, with labels; rows may hold several samples.
        label_smoothing: share of the target's probability that is spread over the vocabulary.
    """
    hidden = decoder.hidden(batch.input_ids, batch.attention_mask)
    labels = batch.labels[:, 1:]
    supervised = labels != -100
    logits = decoder.logits(hidden[:, :-1][supervised])
    return F.cross_entropy(logits, labels[supervised], label_smoothing=label_smoothing)
