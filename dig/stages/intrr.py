"""intrr: the baseline that reads one vector an item and chooses the next one's codes in one small network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning

from datamodules.item_sequences import ItemSequences
from datamodules.leakage import guard_artifact, write_items_seen
from datamodules.splits import leading_items
from dig.config import Config
from dig.modules.intrr import IntRRModule
from dig.stages.base import Stage, StageContext
from dig.stages.fresh_intrr import fresh_intrr
from dig.stages.policies import says_policy
from dig.stages.prepare import load_catalogue, load_sequences
from dig.stages.tokenize import follows_behaviour
from dig.stages.training import Plan, fit, reads_training

__all__ = ["STAGE"]


def _reads(config: Config) -> dict[str, Any]:
    return reads_training(config, "intrr", "evaluation.ks", "evaluation.valid_users", "evaluation.valid_beams")


def _build(context: StageContext, folder: Path) -> None:
    config, sequences = context.config, load_sequences(context)
    lightning.seed_everything(config.seed, verbose=False)
    item_ids = load_catalogue(context)["item_id"]
    if follows_behaviour(config):
        guard_artifact("intrr: its Semantic IDs", context.inputs["tokenize"].path, sequences, item_ids)
    model = fresh_intrr(
        context,
        hidden_size=config.intrr.hidden_size,
        layers=config.intrr.layers,
        heads=config.intrr.heads,
        inner_size=config.intrr.feed_forward * config.intrr.hidden_size,
        max_history=config.intrr.max_history,
        dropout=config.intrr.dropout,
    )
    data = ItemSequences(
        sequences,
        config.intrr.max_history,
        config.intrr.batch_size,
        config.evaluation.valid_users,
        config.seed,
        config.trainer.workers,
    )
    plan = Plan("intrr", _reads(config), config.intrr.epochs, clip_norm=1.0, ranked=True,
                patience=config.intrr.patience)  # fmt: skip
    module = IntRRModule(model, config.intrr, config.evaluation)
    fit(plan, module, data, context, folder)
    if module.trainer.is_global_zero:
        model.save(folder / "model")
        write_items_seen(folder, sequences, leading_items(sequences, sequences.train), item_ids)


STAGE = Stage("intrr", ("prepare", "tokenize"), _reads, _build, says_policy, every_rank=True,
              enabled=lambda config: "intrr" in config.baselines)  # fmt: skip
