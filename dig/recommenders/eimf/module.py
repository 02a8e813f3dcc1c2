"""EIMFModule: several interests trained by cross-entropy over the whole catalogue, taught by texts after a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dig.evaluation import ranking_metrics
from dig.evaluation.rankers import padded_rows
from dig.interests.profiles import typical_users
from dig.modules.optimisation import adamw_with_warmup
from dig.recommenders.eimf.explicit import ExplicitHeads, KnownUsers, best_interests, interest_cross_entropy

if TYPE_CHECKING:
    from datamodules.item_sequences import ItemSequenceBatch
    from dig.config.schema import EvaluationConfig
    from dig.recommenders.eimf import EIMFConfig
    from dig.recommenders.eimf.model import EIMF

__all__ = ["EIMFModule"]

_READ_AT_ONCE = 1024  # histories, where customers are clustered


class EIMFModule(lightning.LightningModule):
    """Every position of a history trains the interest that fits what came next.

    After ``warmup_epochs`` customers are clustered by what behaviour has taught so far, once; from then on each step
    also reads some typical ones, whose interests in words are known. Who is typical is a buffer, so that it is part of
    every checkpoint. Without ``explicit`` nothing of this exists, and until the clustering both train alike.

    Args:
        model: the model.
        config: learning rate, weights of the losses, clusters.
        evaluation: cut-offs of the validation.
        explicit: all customers whose interests are known in words, where these teach; as many as clusters at least.
        seed: of the clustering.
    """

    typical: Tensor

    def __init__(
        self,
        model: EIMF,
        config: EIMFConfig,
        evaluation: EvaluationConfig,
        explicit: KnownUsers | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.seed = seed
        self.largest = max(evaluation.ks)
        self.valid_metrics = ranking_metrics(evaluation.ks, prefix="valid/")
        self.validated_at: int | None = None
        self.explicit = explicit
        self.teachers: KnownUsers | None = None
        self.heads: ExplicitHeads | None = None
        if explicit is not None:
            self.heads = ExplicitHeads(config, explicit.vectors.shape[1])
            most = min(config.clusters * config.typical_users, len(explicit))
            self.register_buffer("typical", torch.full((most,), -1))

    def training_step(self, batch: ItemSequenceBatch) -> Tensor:
        """Mean cross-entropy of the targets, and what typical customers teach."""
        targets = batch.targets[batch.histories >= 0]
        learned = targets >= 0
        targets, table = targets[learned], self.model.output_table()
        best, others = best_interests(self.model.interests(batch.histories)[learned], table, targets)
        loss = interest_cross_entropy(best, others, table, targets, self.config.readout)
        if self.heads is not None:
            loss = loss + self._taught(self.heads, len(batch.samples))
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

    def on_train_batch_start(self, batch: ItemSequenceBatch, batch_idx: int) -> None:
        """Meets the typical customers when it is time: finds them, or finds them again in a checkpoint."""
        met = self.teachers is not None or self.current_epoch < self.config.warmup_epochs
        if self.explicit is None or met:
            return
        if (self.typical < 0).all():
            leads = self.trainer.is_global_zero
            rows = self._find_typical(self.explicit) if leads else torch.empty(0, dtype=torch.int64)
            rows = self.trainer.strategy.broadcast(rows)
            self.typical[: len(rows)] = rows.to(self.typical.device)
        self.teachers = self.explicit.only(self.typical[self.typical >= 0].cpu().numpy())

    def configure_optimizers(self) -> Any:
        """AdamW, a short warm-up, then a cosine down to 0."""
        return adamw_with_warmup(self, self.config)

    @torch.no_grad()
    def user_vectors(self, histories: list[np.ndarray]) -> Tensor:
        """(users, width) float32 on the CPU: the mean direction of each customer's interests."""
        training = self.model.training
        self.model.eval()
        vectors = []
        for start in range(0, len(histories), _READ_AT_ONCE):
            rows = padded_rows(histories[start : start + _READ_AT_ONCE])
            interests = F.normalize(self.model.latest_interests(rows.to(self.device)).float(), dim=-1)
            vectors.append(interests.mean(dim=1).cpu())
        self.model.train(training)
        return torch.cat(vectors)

    def _find_typical(self, known: KnownUsers) -> Tensor:
        """Rows of typical customers, of those who have interests in words."""
        generator = torch.Generator().manual_seed(self.seed)
        vectors = self.user_vectors(known.histories)
        rows = typical_users(vectors, self.config.clusters, self.config.typical_users, generator)
        return torch.from_numpy(known.users)[rows]

    def _taught(self, heads: ExplicitHeads, samples: int) -> Tensor:
        """What typical customers teach, once they are met."""
        if self.teachers is None:
            return heads.idle()
        # drawn behind the other draws of the step, so that those are as in a training without it; same after a resume
        places = torch.randperm(len(self.teachers))[: self.config.typical_batch]
        histories, texts = self.teachers.batch(places, self.device)
        losses = heads.losses(self.model.latest_interests(histories), texts)
        self.log_dict({f"train/{name}": loss for name, loss in losses.items()}, batch_size=samples)
        return torch.stack(list(losses.values())).sum()
