"""intrr: the baseline that reads one vector an item and chooses the next one's codes in one small network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.leakage import guard_artifact
from dig.config import Config
from dig.engine.lazy import lightning
from dig.engine.stage import Stage, StageContext
from dig.engine.training import reads_training
from dig.recommenders import intrr
from dig.recommenders.intrr.start import fresh_intrr
from dig.recommenders.training import train_on_items
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
    settings = intrr.SPEC.of(config)
    model = fresh_intrr(
        context,
        hidden_size=settings.hidden_size,
        layers=settings.layers,
        heads=settings.heads,
        inner_size=settings.feed_forward * settings.hidden_size,
        max_history=settings.max_history,
        dropout=settings.dropout,
    )
    module = intrr.IntRRModule(model, settings, config.evaluation)
    if train_on_items("intrr", settings, _reads(config), module, context, folder):
        model.save(folder / "model", load_stamp(context))


STAGE = Stage(
    intrr.SPEC.name,
    intrr.SPEC.needs,
    _reads,
    _build,
    says_policy,
    every_rank=True,
    enabled=lambda config: "intrr" in config.baselines,
)
