"""sft: supervised fine-tuning of the backbone on the next item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datamodules
from datamodules.leakage import guard_artifact, write_items_seen
from datamodules.prompts import PromptBuilder, prompt_builder
from datamodules.splits import Sequences, leading_items
from dig import modules
from dig.config import Config
from dig.config.schema import INTEREST_TASKS, RELATION_TASKS
from dig.engine.console import say
from dig.engine.lazy import lightning
from dig.engine.stage import Stage, StageContext, global_rank
from dig.engine.training import Plan, fit, reads_training
from dig.pretrained import model_identity
from dig.stages.fresh_backbone import fresh_backbone
from dig.stages.policies import item_tokens, load_spelled_ids, policy_summary, save_policy
from dig.stages.prepare import load_catalogue, load_sequences
from dig.stages.tokenize import follows_behaviour
from dig.stages.tokens import task_mixture

__all__ = ["STAGE"]


def _config_keys(config: Config) -> dict[str, Any]:
    keys = ("items", "backbone", "prompt", "sft", "evaluation.ks", "evaluation.valid_users", "evaluation.valid_beams")
    assignment = ("intrr.assignment",) if config.items.representation == "one" else ()
    read = reads_training(config, *keys, *assignment)
    if name := config.backbone.pretrained:
        read["backbone"]["pretrained"] = model_identity(name, f"backbone.pretrained={name}")
    return read


def _build(context: StageContext, folder: Path) -> None:
    config = context.config
    lightning.seed_everything(config.seed, verbose=False)
    ids = load_spelled_ids(context)
    backbone = fresh_backbone(context, ids)
    builder = prompt_builder(backbone, ids, config.prompt)
    sequences = load_sequences(context)
    item_ids = load_catalogue(context)["item_id"]
    for stage, what in _learned_from(config).items():
        guard_artifact(f"sft: {what}", context.inputs[stage].path, sequences, item_ids)
    pack = config.sft.pack and backbone.packs_rows
    training = task_mixture(context, sequences, builder, config.sft_shares, pack)
    _say_unheard(config)
    data = datamodules.SequenceDataModule(
        training,
        sequences,
        builder,
        config.sft.batch_size,
        config.evaluation.valid_users,
        config.evaluation.batch_size,
        config.seed,
        config.trainer.num_workers,
    )
    module = modules.SFTModule(backbone, item_tokens(backbone, ids), config.sft, config.evaluation)
    plan = Plan(
        "sft",
        _config_keys(config),
        config.sft.epochs,
        max_steps=config.sft.max_steps,
        gradient_clip_val=config.sft.gradient_clip_val,
        ranked=True,
        patience=config.sft.patience,
        resume_from=config.sft.resume_from,
    )
    fit(plan, module, data, context, folder)
    if module.trainer.is_global_zero:
        save_policy(module, folder, ids, adapters=config.backbone.lora.export)
        _say_cut(builder, sequences)
        write_items_seen(folder, sequences, leading_items(sequences, sequences.train), item_ids)


def _learned_from(config: Config) -> dict[str, str]:
    """Stages that it reads and that learn from histories, with what they give."""
    sources = {"tokenize": "its Semantic IDs"} if follows_behaviour(config) else {}
    return sources | ({"relations": "the relations between items"} if config.relation_tasks else {})


def _say_unheard(config: Config) -> None:
    """Tells which settings say nothing under the way that items are written."""
    written, unheard = config.items.representation, config.items.unread
    if written == "one" and config.sft.softmax != "vocabulary":
        unheard = [*unheard, f"sft.softmax={config.sft.softmax}"]
    if unheard and global_rank() == 0:
        say(f"sft: items.representation={written} does not read {', '.join(unheard)}")


def _say_cut(builder: PromptBuilder, sequences: Sequences) -> None:
    """Tells whose histories the backbone cannot read to their old end."""
    lengths = sequences.rows.lengths - 1
    cut = int((lengths > builder.max_history).sum())
    if cut:
        why = "the backbone's context holds no more" if builder.short_of_context else "prompt.max_history"
        say(
            f"sft: {cut:,} of {len(lengths):,} histories are longer than {builder.max_history} items and lose their "
            f"old end ({why})"
        )


def _optional_inputs(config: Config) -> tuple[str, ...]:
    """The stages behind what its tasks read."""
    names = set(config.sft_shares)
    needs = {"label": names & set(INTEREST_TASKS), "relations": names & set(RELATION_TASKS)}
    return tuple(stage for stage, tasks in needs.items() if tasks)


STAGE = Stage(
    "sft",
    ("prepare", "tokenize"),
    _config_keys,
    _build,
    policy_summary,
    version=3,
    every_rank=True,
    optional_inputs=_optional_inputs,
)
