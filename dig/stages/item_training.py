"""Trainings over histories of item numbers: the same batches and plan whatever the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import datamodules
from datamodules.leakage import write_items_seen
from datamodules.splits import leading_items
from dig.engine.lazy import lightning
from dig.engine.stage import StageContext
from dig.engine.training import Plan, fit
from dig.stages.prepare import load_catalogue, load_sequences

__all__ = ["ItemTraining", "train_on_items"]


class ItemTraining(Protocol):
    """Settings that every such training has."""

    max_history: int
    batch_size: int
    epochs: int
    patience: int


def train_on_items(
    stage: str,
    settings: ItemTraining,
    reads: dict[str, Any],
    module: lightning.LightningModule,
    context: StageContext,
    folder: Path,
) -> bool:
    """Trains, leaves the best weights by validation in ``module``, and writes which items they saw.

    Args:
        stage: its name.
        settings: its section of the configuration.
        reads: the configuration that decides its result.
        module: around the model, validated by ranking.
        context: the stage's.
        folder: of its artifact.

    Returns:
        Whether this is rank 0, which writes the weights.
    """
    config, sequences = context.config, load_sequences(context)
    data = datamodules.ItemSequences(
        sequences,
        settings.max_history,
        settings.batch_size,
        config.evaluation.valid_users,
        config.seed,
        config.trainer.workers,
    )
    plan = Plan(stage, reads, settings.epochs, clip_norm=1.0, ranked=True, patience=settings.patience)
    fit(plan, module, data, context, folder)
    if not module.trainer.is_global_zero:
        return False
    item_ids = load_catalogue(context)["item_id"]
    write_items_seen(folder, sequences, leading_items(sequences, sequences.train), item_ids)
    return True
