"""TigerModule: a T5 that learns to spell the next item's Semantic ID."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
import torch
from torch import Tensor
from transformers.models.t5.modeling_t5 import T5Attention

from dig.config.schema import EvaluationConfig
from dig.evaluation import ranking_metrics
from dig.generation import CatalogueTrie, beam_search
from dig.modules.dropout import replace_dropout
from dig.modules.losses import answer_loss
from dig.modules.optimisation import scheduled_steps, warmup_cosine
from dig.recommenders.tiger import TigerConfig

if TYPE_CHECKING:
    from datamodules.item_sequences import AnswerBatch
    from datamodules.sequences import HeldOutBatch

__all__ = ["TigerModule"]


class TigerModule(lightning.LightningModule):
    """A history in the encoder, the next item in the decoder.

    Args:
        model: a T5.
        item_tokens: (items, levels) vocabulary ids, -1 for a missing suffix.
        config: the stage's settings.
        evaluation: cut-offs and beams of the validation.
    """

    def __init__(self, model: Any, item_tokens: Tensor, config: TigerConfig, evaluation: EvaluationConfig) -> None:
        super().__init__()
        self.model = model
        self.trie = CatalogueTrie(item_tokens, duplicates=True, persistent=False)
        self.config = config
        self.valid_beams = max(evaluation.valid_beams, *evaluation.ks)
        self.valid_metrics = ranking_metrics(evaluation.ks, prefix="valid/")
        self.validated_at: int | None = None
        replace_dropout(model)
        for module in model.modules():
            if isinstance(module, T5Attention):
                module.dropout = 0.0  # there are more attention weights than anything else, and to draw costs time

    def training_step(self, batch: AnswerBatch) -> Tensor:
        """Mean cross-entropy of the answers."""
        loss = answer_loss(self.model, batch, self.config.label_smoothing)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.samples))
        return loss

    def validation_step(self, batch: HeldOutBatch) -> None:
        """Ranks the catalogue after each history."""
        beams = beam_search(self.model, batch.input_ids, batch.attention_mask, self.trie, self.valid_beams)
        self.valid_metrics.update(beams.items, batch.targets)
        self.log_dict(self.valid_metrics, on_step=False, on_epoch=True, batch_size=len(batch.targets))

    def on_validation_end(self) -> None:
        """Notes the step."""
        self.validated_at = self.trainer.global_step

    def configure_optimizers(self) -> Any:
        """AdamW with a rate of its own for the token table and no decay on norms; warm-up, then a cosine down to 0."""
        config = self.config
        table = self.model.get_input_embeddings().weight
        matrices = [weight for weight in self.parameters() if weight.ndim >= 2 and weight is not table]
        vectors = [weight for weight in self.parameters() if weight.ndim < 2]
        groups: list[dict[str, Any]] = [
            {"params": [table], "lr": config.embedding_learning_rate},
            {"params": matrices},
            {"params": vectors, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            groups, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        total = scheduled_steps(self.trainer)
        return warmup_cosine(optimizer, min(config.warmup_steps, total), total)
