"""IntRRModule: a transformer over items that learns to choose the next item's codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
from torch import Tensor

from dig.evaluation import ranking_metrics
from dig.generation import CatalogueTrie, beam_search
from dig.generation.intrr import IntRR, intrr_vocabulary
from dig.generation.intrr_paths import intrr_losses
from dig.modules.optimisation import adamw_with_warmup

if TYPE_CHECKING:
    from datamodules.item_sequences import ItemSequenceBatch
    from dig.config.schema import EvaluationConfig
    from dig.recommenders.intrr import IntRRConfig

__all__ = ["IntRRModule"]


class IntRRModule(lightning.LightningModule):
    """Every position of a history learns the codes of what came next, and items keep those of their Semantic IDs.

    Args:
        model: the model.
        config: λ, learning rate and weight decay.
        evaluation: cut-offs and beams of the validation.
    """

    def __init__(self, model: IntRR, config: IntRRConfig, evaluation: EvaluationConfig) -> None:
        super().__init__()
        self.model = model
        tokens = intrr_vocabulary(model.sizes.codes).encode(model.codes)
        self.trie = CatalogueTrie(tokens, duplicates=True, persistent=False)
        self.config = config
        self.valid_beams = max(evaluation.valid_beams, *evaluation.ks)
        self.valid_metrics = ranking_metrics(evaluation.ks, prefix="valid/")
        self.validated_at: int | None = None

    def training_step(self, batch: ItemSequenceBatch) -> Tensor:
        """Mean over targets, and λ times the alignment."""
        losses, alignment = intrr_losses(self.model, self.trie, batch.histories, batch.targets)
        loss = losses.mean()
        self.log_dict({"train/loss": loss, "train/alignment": alignment}, prog_bar=True, batch_size=len(batch.samples))
        return loss * self._weight_of_rank(losses) + self.config.assignment.alignment * alignment

    def on_validation_start(self) -> None:
        """All items' vectors are computed once."""
        self.model.remember()

    def validation_step(self, batch: ItemSequenceBatch) -> None:
        """Ranks the catalogue after each history."""
        mask = batch.histories >= 0
        beams = beam_search(self.model, batch.histories.clamp(min=0), mask, self.trie, self.valid_beams)
        self.valid_metrics.update(beams.items, batch.targets)
        self.log_dict(self.valid_metrics, on_step=False, on_epoch=True, batch_size=len(batch.samples))

    def on_validation_end(self) -> None:
        """Notes the step; weights will change."""
        self.validated_at = self.trainer.global_step
        self.model.forget()

    def _weight_of_rank(self, losses: Tensor) -> Tensor | float:
        """Makes the mean over ranks, which is what DDP takes of gradients, one over all ranks' targets."""
        if self.trainer.world_size == 1:
            return 1.0
        count = losses.new_tensor(float(len(losses)))
        return count / self.trainer.strategy.reduce(count.clone(), reduce_op="mean")

    def configure_optimizers(self) -> Any:
        """AdamW, a short warm-up, then a cosine down to 0."""
        return adamw_with_warmup(self, self.config)
