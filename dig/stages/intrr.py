"""intrr: the baseline that reads one vector an item and chooses the next one's codes in one small network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.leakage import guard_artifact
from dig import modules
from dig.config import Config
from dig.engine.lazy import lightning
from dig.engine.stage import Stage, StageContext
from dig.engine.training import reads_training
from dig.stages.fresh_intrr import fresh_intrr
from dig.stages.item_training import train_on_items
from dig.stages.policies import says_policy
from dig.stages.prepare import load_catalogue, load_sequences, load_stamp
from dig.stages.tokenize import follows_behaviour

__all__ = ["STAGE"]


def _reads(config: Config) -> dict[str, Any]:
    return reads_training(config, "intrr", "evaluation.ks", "evaluation.valid_users", "evaluation.valid_beams")


def _build(context: StageContext, folder: Path) -> None:
    config = context.config
    lightning.seed_everything(config.seed, verbose=False)
    if follows_behaviour(config):
        item_ids = load_catalogue(context)["item_id"]
        guard_artifact("intrr: its Semantic IDs", context.inputs["tokenize"].path, load_sequences(context), item_ids)
    model = fresh_intrr(
        context,
        hidden_size=config.intrr.hidden_size,
        layers=config.intrr.layers,
        heads=config.intrr.heads,
        inner_size=config.intrr.feed_forward * config.intrr.hidden_size,
        max_history=config.intrr.max_history,
        dropout=config.intrr.dropout,
    )
    module = modules.IntRRModule(model, config.intrr, config.evaluation)
    if train_on_items("intrr", config.intrr, _reads(config), module, context, folder):
        model.save(folder / "model", load_stamp(context))


STAGE = Stage(
    "intrr",
    ("prepare", "tokenize"),
    _reads,
    _build,
    says_policy,
    every_rank=True,
    enabled=lambda config: "intrr" in config.baselines,
)
