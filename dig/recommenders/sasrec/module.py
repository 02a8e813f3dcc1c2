"""SASRecModule: SASRec trained by cross-entropy over the whole catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
from torch import Tensor

from dig.evaluation import ranking_metrics
from dig.modules.losses import catalogue_cross_entropy
from dig.modules.optimisation import adamw_with_warmup

if TYPE_CHECKING:
    from datamodules.item_sequences import ItemSequenceBatch
    from dig.config.schema import EvaluationConfig
    from dig.recommenders.sasrec import SASRecConfig
    from dig.recommenders.sasrec.model import SASRec

__all__ = ["SASRecModule"]


class SASRecModule(lightning.LightningModule):
    """Every position of a history learns what came next.

    Args:
        model: the model.
        config: learning rate and weight decay.
        evaluation: cut-offs of the validation.
    """

    def __init__(self, model: SASRec, config: SASRecConfig, evaluation: EvaluationConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.largest = max(evaluation.ks)
        self.valid_metrics = ranking_metrics(evaluation.ks, prefix="valid/")
        self.validated_at: int | None = None

    def training_step(self, batch: ItemSequenceBatch) -> Tensor:
        """Mean cross-entropy of the targets."""
        targets = batch.targets[batch.histories >= 0]
        learned = targets >= 0
        states = self.model.states(batch.histories)[learned]
        loss = catalogue_cross_entropy(states, self.model.output_table(), targets[learned])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.samples))
        return loss

    def validation_step(self, batch: ItemSequenceBatch) -> None:
        """Ranks the catalogue after each history."""
        ranked = self.model.next_logits(batch.histories).topk(self.largest, dim=1).indices
        self.valid_metrics.update(ranked, batch.targets)
        self.log_dict(self.valid_metrics, on_step=False, on_epoch=True, batch_size=len(batch.samples))

    def on_validation_end(self) -> None:
        """Notes the step."""
        self.validated_at = self.trainer.global_step

    def configure_optimizers(self) -> Any:
        """AdamW, a short warm-up, then a cosine down to 0."""
        return adamw_with_warmup(self, self.config)
