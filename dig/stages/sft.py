"""sft: supervised fine-tuning of the backbone on the next item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from datamodules.leakage import guard_artifact, write_items_seen
from datamodules.prompts import PromptBuilder
from datamodules.sequences import SequenceDataModule
from datamodules.splits import Sequences, leading_items
from dig.config import Config, UserError
from dig.config.schema import INTEREST_TASKS, active_shares
from dig.console import say
from dig.generation.backbone import Backbone, build_backbone
from dig.generation.composed_rows import ComposedRows, compose_rows, started_rows
from dig.generation.sid_rows import level_vectors
from dig.modules.sft import SFTModule
from dig.stages.base import Stage, StageContext
from dig.stages.policies import item_tokens, load_spelled_ids, max_tokens, prompt_builder, save_policy, says_policy
from dig.stages.prepare import load_catalogue, load_sequences
from dig.stages.tokenize import follows_behaviour, load_codebooks, load_semantic_ids
from dig.stages.tokens import task_mixture
from dig.stages.training import Plan, fit, reads_training

__all__ = ["STAGE"]


def _reads(config: Config) -> dict[str, Any]:
    keys = ("backbone", "prompt", "sft", "evaluation.ks", "evaluation.valid_users", "evaluation.valid_beams")
    return reads_training(config, *keys)


def _build(context: StageContext, folder: Path) -> None:
    config = context.config
    lightning.seed_everything(config.seed, verbose=False)
    ids = load_spelled_ids(context)
    vectors = _vectors(context) if config.backbone.sid_rows == "codebook" else None
    dtype = torch.bfloat16 if config.trainer.precision == "bf16-true" else torch.float32
    backbone = build_backbone(config.backbone, ids.sizes, max_tokens(config, ids), vectors, dtype)
    if config.backbone.sid_rows == "composed":
        _compose(context, backbone)
    builder = prompt_builder(config, backbone, ids)
    sequences = load_sequences(context)
    training = task_mixture(context, sequences, builder, _shares(config))
    item_ids = load_catalogue(context)["item_id"]
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
        save_policy(module, folder, ids, adapters=config.backbone.lora.export)
        _say_cut(builder, sequences)
        write_items_seen(folder, sequences, leading_items(sequences, sequences.train), item_ids)


def _vectors(context: StageContext) -> list[Tensor]:
    """Where the tokenizer puts the tokens of each level."""
    prompt, ids = context.config.prompt, load_semantic_ids(context)
    levels = ids.levels if prompt.codes is None else prompt.codes
    codebooks = load_codebooks(context)
    if not codebooks:
        raise UserError("backbone.sid_rows=codebook: the Semantic IDs of this tokenizer come without codebooks; use "
                        "backbone.sid_rows=random", exit_code=2)  # fmt: skip
    return level_vectors(codebooks, ids.codes[:, : ids.levels], levels, prompt.item_token)


def _compose(context: StageContext, backbone: Backbone) -> None:
    """Composes items' own tokens of rows of their codes, which start at the codebooks where there are any."""
    ids = load_semantic_ids(context)
    settings: Any = backbone.model.config
    codes, sizes = ids.codes[:, : ids.levels], ids.sizes[: ids.levels]
    generator = torch.Generator().manual_seed(context.config.seed)
    codebooks = load_codebooks(context) or [torch.randn(size, 32, generator=generator) for size in sizes]
    rows = started_rows(codebooks, codes, settings.hidden_size, getattr(settings, "initializer_range", 0.02))
    compose_rows(backbone.model, ComposedRows(rows, codes, backbone.vocabulary.first_ids[-1]))


def _say_cut(builder: PromptBuilder, sequences: Sequences) -> None:
    """Tells whose histories the backbone cannot read to their old end."""
    lengths = sequences.rows.lengths - 1
    cut = int((lengths > builder.max_history).sum())
    if cut:
        why = "the backbone's context holds no more" if builder.short_of_context else "prompt.max_history"
        say(f"sft: {cut:,} of {len(lengths):,} histories are longer than {builder.max_history} items and lose their "
            f"old end ({why})")  # fmt: skip


def _shares(config: Config) -> dict[str, float]:
    return active_shares(config.sft.tasks, knows_text=config.backbone.pretrained is not None)


def _also(config: Config) -> tuple[str, ...]:
    """The stages behind what its tasks read."""
    names = set(_shares(config))
    needs = {"label": names & set(INTEREST_TASKS), "embed": names & {"collaborative", "semantic"}}
    return tuple(stage for stage, tasks in needs.items() if tasks)


STAGE = Stage("sft", ("prepare", "tokenize"), _reads, _build, says_policy, version=3, every_rank=True, also=_also)
