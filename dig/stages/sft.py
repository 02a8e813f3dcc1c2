"""sft: supervised fine-tuning of the backbone on the next item."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning

from datamodules.leakage import SEEN_FILE, guard_artifact
from datamodules.sequences import SequenceDataModule
from dig.config import Config
from dig.generation.backbone import build_backbone
from dig.modules.sft import SFTModule
from dig.stages.base import Stage, StageContext
from dig.stages.policies import item_tokens, max_tokens, prompt_builder, save_policy, says_policy
from dig.stages.prepare import load_catalogue, load_sequences
from dig.stages.tokenize import follows_behaviour, load_semantic_ids
from dig.stages.tokens import token_arrays
from dig.stages.training import Plan, fit, reads_training

__all__ = ["STAGE"]


def _reads(config: Config) -> dict[str, Any]:
    keys = ("backbone", "prompt", "sft", "evaluation.ks", "evaluation.valid_users", "evaluation.valid_beams")
    return reads_training(config, *keys)


def _build(context: StageContext, folder: Path) -> None:
    config = context.config
    lightning.seed_everything(config.seed, verbose=False)
    ids = load_semantic_ids(context)
    backbone = build_backbone(config.backbone, ids.sizes, max_tokens(config, ids))
    builder = prompt_builder(config, backbone, ids)
    sequences = load_sequences(context)
    training = token_arrays(context, sequences, builder, config.sft.pack)
    item_ids = load_catalogue(context)["item_id"]
    guard_artifact("sft: its training samples", training.folder, sequences, item_ids)
    if follows_behaviour(config):
        guard_artifact("sft: its Semantic IDs", context.inputs["tokenize"].path, sequences, item_ids)
    data = SequenceDataModule(
        training,
        sequences,
        builder,
        config.sft.batch_size,
        config.evaluation.valid_users,
        config.evaluation.batch_size,
        config.seed,
        config.trainer.workers,
    )
    module = SFTModule(backbone, item_tokens(backbone, ids), config.sft, config.evaluation)
    plan = Plan(
        "sft",
        _reads(config),
        config.sft.epochs,
        max_steps=config.sft.max_steps,
        clip_norm=config.sft.clip_norm,
        ranked=True,
        patience=config.sft.patience,
        resume_from=config.sft.resume_from,
    )
    fit(plan, module, data, context, folder)
    if module.trainer.is_global_zero:
        save_policy(module, folder)
        shutil.copyfile(training.folder / SEEN_FILE, folder / SEEN_FILE)


STAGE = Stage("sft", ("prepare", "tokenize"), _reads, _build, says_policy, version=2, every_rank=True)
