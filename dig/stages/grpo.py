"""grpo: group relative policy optimisation with the interest-aware reward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import callbacks
import datamodules
from datamodules.leakage import guard_artifact, write_items_seen
from datamodules.prompts import PromptBuilder, prompt_builder
from datamodules.splits import Sequences, leading_items
from datamodules.tasks import TASKS
from dig import modules
from dig.config import Config, UserError
from dig.embeddings import encoder_fingerprint
from dig.embeddings.cache import content_keys
from dig.engine.console import warn
from dig.engine.lazy import lightning
from dig.engine.stage import Stage, StageContext
from dig.engine.training import Plan, fit, reads_training
from dig.generation.backbone import load_backbone
from dig.generation.lora import add_lora, frozen_base
from dig.quantization import SemanticIds
from dig.recommenders.sasrec.stage import load_sasrec
from dig.rollouts import RewardContext
from dig.stages.embed import load_embeddings
from dig.stages.encoding import encode_texts
from dig.stages.label import load_quality
from dig.stages.policies import content_codes, item_tokens, load_spelled_ids, policy_summary, save_policy
from dig.stages.prepare import load_catalogue, load_sequences
from dig.stages.rewards import check_own_terms, own_terms, required_facts, stages_behind
from dig.stages.tokenize import load_semantic_ids
from dig.stages.tokens import interests_of_items, known_of_items

__all__ = ["STAGE"]


def _config_keys(config: Config) -> dict[str, Any]:
    keys = ("evaluation.ks", "evaluation.valid_users", "evaluation.valid_beams")
    config_keys = reads_training(config, "backbone.lora", "items", "prompt", "grpo", *keys)
    if config.grpo.reward.extra:
        config_keys["own reward terms"] = own_terms(config)
    if config.grpo.reward.similarity:
        config_keys["encoder"] = encoder_fingerprint(config.embedding.text_encoder)
    return config_keys


def _build(context: StageContext, folder: Path) -> None:
    config = context.config
    lightning.seed_everything(config.seed, verbose=False)
    ids, spelled = load_semantic_ids(context), load_spelled_ids(context)
    _check_policy(context, spelled)
    sequences, catalogue = load_sequences(context), load_catalogue(context)
    item_ids = catalogue["item_id"]
    guard_artifact("grpo: the policy of sft", context.inputs["sft"].path, sequences, item_ids)
    rewards = reward_context(context, folder, sequences, ids)
    policy = context.file("sft", "model")
    backbone = load_backbone(policy, spelled.sizes)
    if config.backbone.pretrained and config.backbone.lora.enabled:
        backbone.model = add_lora(backbone.model, config.backbone.lora)
        backbone.base = frozen_base(backbone.model, str(policy))
    builder = prompt_builder(backbone, spelled, config.prompt)
    prompts = _prompts(context, sequences, builder)
    data = datamodules.PromptDataModule(
        prompts,
        sequences,
        builder,
        config.grpo.prompts_per_step * config.grpo.dynamic_sampling,
        config.evaluation.valid_users,
        config.evaluation.batch_size,
        config.seed,
        config.trainer.num_workers,
    )
    module = modules.GRPOModule(
        backbone, item_tokens(backbone, spelled), rewards, config.grpo, config.evaluation, config.seed
    )
    _check_group_size(config, module.trie.num_items)
    titles = catalogue["title"].to_list()
    names = item_ids.to_list()
    samples = callbacks.RolloutSamples(folder / "groups.jsonl", names, titles, interests_of_items(context, names))
    plan = Plan(
        "grpo",
        _config_keys(config),
        config.grpo.epochs,
        max_steps=config.grpo.max_steps,
        gradient_clip_val=config.grpo.gradient_clip_val,
        ranked=True,
        validate_every=config.grpo.validate_every,
        keep_start=True,
        group_rollouts=True,
        resume_from=config.grpo.resume_from,
        callbacks=(callbacks.RolloutHealth(), samples),
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
    texts = known_of_items(context, kinds)
    prompts = datamodules.TrainingPrompts(
        sequences, builder, config.prompts_per_user, shares, texts, context.config.seed
    )
    for name, count in zip(shares, prompts.drawn, strict=True):
        if not count:
            warn(f"grpo: the task {name} has no prompts here: the items tell nothing that it needs")
    if not sum(prompts.drawn):
        raise UserError(
            f"grpo: no prompt is left to roll out for {', '.join(shares)}: a user needs two items in the training "
            "part, an item the text that a task asks about (grpo.tasks, data.k_core)"
        )
    return prompts


def _check_policy(context: StageContext, spelled: SemanticIds) -> None:
    """The Semantic IDs beside the policy are those that rollouts and rewards are read by."""
    theirs = SemanticIds.load(context.file("sft", "model") / "semantic_ids.parquet")
    if theirs.item_ids != spelled.item_ids or not torch.equal(theirs.codes, spelled.codes):
        raise UserError(
            "grpo: the policy of sft speaks other Semantic IDs than those of the stage tokenize; train it again: "
            "delete the folder of its artifact"
        )


def _check_group_size(config: Config, num_items: int) -> None:
    grpo = config.grpo
    if grpo.rollouts != "sample" and grpo.group_size > num_items:
        raise UserError(
            f"grpo.group_size={grpo.group_size} is more than the {num_items} items of the catalogue, and "
            f"grpo.rollouts={grpo.rollouts} takes none twice: lower it, or take rollouts=sample",
            exit_code=2,
        )


def reward_context(context: StageContext, folder: Path, sequences: Sequences, ids: SemanticIds) -> RewardContext:
    """The facts that the reward's terms read, each looked up only if a term asks for it.

    Args:
        context: the stage's.
        folder: the stage's, for encodings.
        sequences: the split.
        ids: the items' Semantic IDs, suffix included.

    Raises:
        UserError: a term requires what the items do not have (which stage gives it).
    """
    required = required_facts(context.config)
    item_ids = load_catalogue(context)["item_id"].to_list()
    sources: dict[str, Callable[[], Any]] = {
        "codes": lambda: content_codes(ids),
        "quality": lambda: _quality(context, required["quality"]),
        "interests": lambda: _interest_vectors(context, folder, required["interests"], item_ids),
        "vectors": lambda: F.normalize(load_embeddings(context), dim=1),
        "counts": lambda: torch.from_numpy(np.bincount(sequences.train.flat(), minlength=len(item_ids))),
        "sequential": lambda: load_sasrec(context),
    }
    return RewardContext(**{fact: sources[fact]() for fact in sorted(required)}, item_ids=item_ids)


def _quality(context: StageContext, term: str) -> Tensor:
    quality = torch.from_numpy(load_quality(context).copy())
    if not bool(quality.any()):
        raise UserError(
            f"grpo.reward.{term} pays by the quality of interests, and no item has an interest that is labelled "
            f"positive: look at mining.miners and labels (stages mine and label), or set grpo.reward.{term}=0"
        )
    return quality


def _interest_vectors(context: StageContext, folder: Path, term: str, item_ids: list[str]) -> Tensor:
    """(items, dim) of length 1; 0 where an item has no positive interest."""
    texts = interests_of_items(context, item_ids)
    rows = [row for row, text in enumerate(texts) if text]
    if not rows:
        raise UserError(
            f"grpo.reward.{term} compares positive interests, and no item has any: look at mining.miners and labels "
            f"(stages mine and label), or set grpo.reward.{term}=0"
        )
    interests = [text for text in texts if text]
    encoded = encode_texts(context, folder, "grpo", interests).gather(content_keys(interests))
    vectors = torch.zeros(len(texts), encoded.shape[1])
    vectors[rows] = F.normalize(encoded, dim=1)
    return vectors


STAGE = Stage(
    "grpo",
    ("prepare", "label", "tokenize", "sft"),
    _config_keys,
    _build,
    policy_summary,
    version=4,
    every_rank=True,
    optional_inputs=stages_behind,
    check=check_own_terms,
)
