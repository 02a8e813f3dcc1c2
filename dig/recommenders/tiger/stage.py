"""tiger: the generative baseline, an encoder-decoder trained from scratch on the Semantic IDs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import datamodules
from datamodules.leakage import guard_artifact, write_items_seen
from datamodules.splits import leading_items
from dig.config import Config
from dig.engine.catalogue import Catalogue, stamp_config
from dig.engine.lazy import lightning
from dig.engine.stage import Stage, StageContext
from dig.engine.training import Plan, fit, reads_training
from dig.recommenders import tiger
from dig.stages.policies import policy_summary
from dig.stages.prepare import load_catalogue, load_sequences
from dig.stages.tokenize import follows_behaviour, load_semantic_ids

__all__ = ["STAGE"]


def _config_keys(config: Config) -> dict[str, Any]:
    return reads_training(config, "tiger", "evaluation.ks", "evaluation.valid_users", "evaluation.valid_beams")


def _build(context: StageContext, folder: Path) -> None:
    config, sequences, ids = context.config, load_sequences(context), load_semantic_ids(context)
    settings = tiger.SPEC.of(config)
    lightning.seed_everything(config.seed, verbose=False)
    item_ids = load_catalogue(context)["item_id"]
    if follows_behaviour(config):
        guard_artifact("tiger: its Semantic IDs", context.inputs["tokenize"].path, sequences, item_ids)
    tokens = datamodules.HistoryTokens(
        tiger.sid_vocabulary(ids.sizes).encode(ids.codes), settings.max_history, tiger.PAD
    )
    data = datamodules.ItemAnswers(
        sequences,
        tokens,
        settings.batch_size,
        config.evaluation.valid_users,
        config.evaluation.batch_size,
        config.seed,
        config.trainer.num_workers,
    )
    plan = Plan(
        "tiger", _config_keys(config), settings.epochs, gradient_clip_val=1.0, ranked=True, patience=settings.patience
    )
    model = tiger.build_t5(ids.sizes, settings)
    module = tiger.TigerModule(model, tokens.item_tokens, settings, config.evaluation)
    fit(plan, module, data, context, folder)
    if module.trainer.is_global_zero:
        model.to("cpu", torch.float32).save_pretrained(folder / "model")
        stamp_config(folder / "model", Catalogue.of(item_ids))
        ids.save(folder / "model" / "semantic_ids.parquet")
        write_items_seen(folder, sequences, leading_items(sequences, sequences.train), item_ids)


STAGE = Stage(
    tiger.SPEC.name,
    tiger.SPEC.needs,
    _config_keys,
    _build,
    policy_summary,
    every_rank=True,
    enabled=lambda config: "tiger" in config.baselines,
)
