"""SequentialModule: a sequential model over item numbers, trained by cross-entropy over the whole catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dig.config.schema import EvaluationConfig, SequentialConfig
from dig.evaluation import ranking_metrics

if TYPE_CHECKING:
    from datamodules.item_sequences import ItemBatch

__all__ = ["SequentialModule"]


class SequentialModule(lightning.LightningModule):
    """Every position of a history learns what came next.

    Args:
        model: gives ``states`` (batch, length, width) and ``logits`` (…, items).
        config: learning rate and weight decay.
        evaluation: cut-offs of the validation.
    """

    def __init__(self, model: nn.Module, config: SequentialConfig, evaluation: EvaluationConfig) -> None:
        super().__init__()
        self.model: Any = model
        self.config = config
        self.largest = max(evaluation.ks)
        self.valid_metrics = ranking_metrics(evaluation.ks, prefix="valid/")
        self.validated_at: int | None = None

    def training_step(self, batch: ItemBatch) -> Tensor:
        """Mean cross-entropy of the targets."""
        learned = batch.targets >= 0
        states = self.model.states(batch.histories)[learned]
        loss = F.cross_entropy(self.model.logits(states), batch.targets[learned])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.samples))
        return loss

    def validation_step(self, batch: ItemBatch) -> None:
        """Ranks the catalogue after each history."""
        ranked = self.model(batch.histories).topk(self.largest, dim=1).indices
        self.valid_metrics.update(ranked, batch.targets)
        self.log_dict(self.valid_metrics, on_step=False, on_epoch=True, batch_size=len(batch.samples))

    def on_validation_end(self) -> None:
        """Notes the step."""
        self.validated_at = self.trainer.global_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        config = self.config
        return torch.optim.AdamW(self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
