"""grpo: group relative policy optimisation with the interest-aware reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch

from callbacks.rollouts import RolloutHealth
from datamodules.leakage import guard_artifact, write_items_seen
from datamodules.rollout_prompts import PromptDataModule
from datamodules.sequences import training_windows
from datamodules.splits import leading_items
from dig.config import Config
from dig.generation.backbone import load_backbone
from dig.generation.lora import add_lora
from dig.modules.grpo import GRPOModule
from dig.stages.base import Stage, StageContext
from dig.stages.label import load_quality
from dig.stages.policies import content_codes, item_tokens, load_spelled_ids, prompt_builder, save_policy, says_policy
from dig.stages.prepare import load_catalogue, load_sequences
from dig.stages.tokenize import load_semantic_ids
from dig.stages.training import Plan, fit, reads_training

__all__ = ["STAGE"]


def _reads(config: Config) -> dict[str, Any]:
    keys = ("backbone.lora", "prompt", "grpo", "evaluation.ks", "evaluation.valid_users", "evaluation.valid_beams")
    return reads_training(config, *keys)


def _build(context: StageContext, folder: Path) -> None:
    config = context.config
    lightning.seed_everything(config.seed, verbose=False)
    ids, spelled = load_semantic_ids(context), load_spelled_ids(context)
    backbone = load_backbone(context.file("sft", "model"), spelled.sizes)
    if config.backbone.pretrained and config.backbone.lora.enabled:
        backbone.model = add_lora(backbone.model, config.backbone.lora)
    sequences, item_ids = load_sequences(context), load_catalogue(context)["item_id"]
    guard_artifact("grpo: the policy of sft", context.inputs["sft"].path, sequences, item_ids)
    builder = prompt_builder(config, backbone, spelled)
    data = PromptDataModule(
        sequences,
        builder,
        config.grpo.prompts_per_step,
        config.evaluation.valid_users,
        config.evaluation.batch_size,
        config.seed,
        config.trainer.workers,
        per_user=config.grpo.prompts_per_user,
    )
    module = GRPOModule(
        backbone,
        item_tokens(backbone, spelled),
        content_codes(ids),
        torch.from_numpy(load_quality(context).copy()),
        config.grpo,
        config.evaluation,
    )
    plan = Plan(
        "grpo",
        _reads(config),
        config.grpo.epochs,
        max_steps=config.grpo.max_steps,
        clip_norm=config.grpo.clip_norm,
        ranked=True,
        validate_every=config.grpo.validate_every,
        keep_start=True,
        group_rollouts=True,
        resume_from=config.grpo.resume_from,
        callbacks=(RolloutHealth(),),
    )
    fit(plan, module, data, context, folder)
    if module.trainer.is_global_zero:
        save_policy(module, folder, spelled, adapters=config.backbone.lora.export)
        prompts = data.training_set()
        seen = leading_items(sequences, training_windows(sequences, builder).histories, prompts.with_targets())
        write_items_seen(folder, sequences, seen, item_ids)


STAGE = Stage("grpo", ("prepare", "label", "tokenize", "sft"), _reads, _build, says_policy, version=3,
              every_rank=True)  # fmt: skip
