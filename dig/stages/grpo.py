"""grpo: group relative policy optimisation with the interest-aware reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import callbacks
import datamodules
from datamodules.leakage import guard_artifact, write_items_seen
from datamodules.prompts import PromptBuilder
from datamodules.splits import Sequences, leading_items
from datamodules.tasks import TASKS
from dig import modules
from dig.config import Config, UserError
from dig.console import warn
from dig.embeddings import encoder_fingerprint
from dig.generation.backbone import load_backbone
from dig.generation.lora import add_lora
from dig.lazy import lightning
from dig.quantization import SemanticIds
from dig.stages.base import Stage, StageContext
from dig.stages.knowledge import item_knowledge
from dig.stages.known import interests_of_items, known_of_items
from dig.stages.policies import item_tokens, load_spelled_ids, prompt_builder, save_policy, says_policy
from dig.stages.prepare import load_catalogue, load_sequences
from dig.stages.reward_check import check_own_terms
from dig.stages.reward_needs import own_terms, stages_behind
from dig.stages.tokenize import load_semantic_ids
from dig.stages.training import Plan, fit, reads_training

__all__ = ["STAGE"]


def _reads(config: Config) -> dict[str, Any]:
    keys = ("backbone.lora", "prompt", "grpo", "evaluation.ks", "evaluation.valid_users", "evaluation.valid_beams")
    found = reads_training(config, *keys)
    if config.grpo.reward.extra:
        found["own reward terms"] = own_terms(config)
    if config.grpo.reward.similarity:
        found["encoder"] = encoder_fingerprint(config.embedding.text_encoder)
    return found


def _build(context: StageContext, folder: Path) -> None:
    config = context.config
    lightning.seed_everything(config.seed, verbose=False)
    ids, spelled = load_semantic_ids(context), load_spelled_ids(context)
    _check_policy(context, spelled)
    sequences, catalogue = load_sequences(context), load_catalogue(context)
    item_ids = catalogue["item_id"]
    guard_artifact("grpo: the policy of sft", context.inputs["sft"].path, sequences, item_ids)
    known = item_knowledge(context, folder, sequences, ids)
    backbone = load_backbone(context.file("sft", "model"), spelled.sizes)
    if config.backbone.pretrained and config.backbone.lora.enabled:
        backbone.model = add_lora(backbone.model, config.backbone.lora)
    builder = prompt_builder(config, backbone, spelled)
    prompts = _prompts(context, sequences, builder)
    data = datamodules.PromptDataModule(
        prompts,
        sequences,
        builder,
        config.grpo.prompts_per_step * config.grpo.dynamic_sampling,
        config.evaluation.valid_users,
        config.evaluation.batch_size,
        config.seed,
        config.trainer.workers,
    )
    module = modules.GRPOModule(
        backbone, item_tokens(backbone, spelled), known, config.grpo, config.evaluation, config.seed
    )
    _check_group_size(config, module.trie.num_items)
    titles = catalogue["title"].to_list()
    names = item_ids.to_list()
    stories = callbacks.GroupStories(folder / "groups.jsonl", names, titles, interests_of_items(context, names))
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
        callbacks=(callbacks.RolloutHealth(), stories),
    )
    fit(plan, module, data, context, folder)
    if module.trainer.is_global_zero:
        save_policy(module, folder, spelled, adapters=config.backbone.lora.export)
        seen = leading_items(sequences, sequences.train, prompts.windows.histories)
        write_items_seen(folder, sequences, seen, item_ids)


def _prompts(context: StageContext, sequences: Sequences, builder: PromptBuilder) -> datamodules.TrainingPrompts:
    """The prompts of an epoch.

    Raises:
        UserError: none is left.
    """
    config = context.config.grpo
    shares = config.tasks.shares
    kinds = {kind for name in shares for kind in TASKS[name].reads}
    known = known_of_items(context, kinds)
    prompts = datamodules.TrainingPrompts(
        sequences, builder, config.prompts_per_user, shares, known, context.config.seed
    )
    for name, count in zip(shares, prompts.drawn, strict=True):
        if not count:
            warn(f"grpo: the task {name} has no prompts here: the items tell nothing that it needs")
    if not sum(prompts.drawn):
        raise UserError(f"grpo: no prompt is left to roll out for {', '.join(shares)}: a user needs two items in the "
                        "training part, an item the text that a task asks about (grpo.tasks, data.k_core)")  # fmt: skip
    return prompts


def _check_policy(context: StageContext, spelled: SemanticIds) -> None:
    """The Semantic IDs beside the policy are those that rollouts and rewards are read by."""
    theirs = SemanticIds.load(context.file("sft", "model") / "semantic_ids.parquet")
    if theirs.item_ids != spelled.item_ids or not torch.equal(theirs.codes, spelled.codes):
        raise UserError("grpo: the policy of sft speaks other Semantic IDs than those of the stage tokenize; train it "
                        "again: delete the folder of its artifact")  # fmt: skip


def _check_group_size(config: Config, num_items: int) -> None:
    grpo = config.grpo
    if grpo.rollouts != "sample" and grpo.group_size > num_items:
        raise UserError(f"grpo.group_size={grpo.group_size} is more than the {num_items} items of the catalogue, and "
                        f"grpo.rollouts={grpo.rollouts} takes none twice: lower it, or take rollouts=sample",
                        exit_code=2)  # fmt: skip


STAGE = Stage("grpo", ("prepare", "label", "tokenize", "sft"), _reads, _build, says_policy, version=4,
              every_rank=True, also=stages_behind, check=check_own_terms)  # fmt: skip
