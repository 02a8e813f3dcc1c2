"""The backbone that SFT begins with: its SID rows where the configuration wants them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dig.config import UserError
from dig.config.sections.sft import one_token_sizes
from dig.engine.stage import StageContext
from dig.generation.backbone import Backbone, IntRRBackbone, ItemTitles, build_backbone
from dig.generation.sid_rows import ComposedRows, compose_rows, level_vectors, started_rows
from dig.generation.vocabulary import TASK_TOKENS
from dig.quantization import SemanticIds
from dig.recommenders import intrr
from dig.recommenders.intrr.stage import fresh_intrr
from dig.stages.policies import max_tokens
from dig.stages.prepare import load_catalogue
from dig.stages.tokenize import load_codebooks, load_semantic_ids

__all__ = ["fresh_backbone"]


def fresh_backbone(context: StageContext, spelled: SemanticIds) -> Backbone:
    """A backbone for the spelled Semantic IDs, pretrained or from scratch.

    Raises:
        UserError: if rows are to start at codebooks and the tokenizer has none.
    """
    config = context.config
    if config.items.representation == "one":
        shape = one_token_sizes(config.backbone)
        model = fresh_intrr(
            context,
            hidden_size=shape["hidden_size"],
            layers=shape["num_hidden_layers"],
            heads=shape["num_attention_heads"],
            inner_size=shape["intermediate_size"],
            max_history=config.prompt.max_history,
            dropout=config.sft.dropout,
            tasks=len(TASK_TOKENS) if config.relation_tasks else 0,
        )
        return IntRRBackbone(model, intrr.SPEC.of(config).assignment.alignment)
    start_at_codebooks = config.items.starts and config.items.start == "codebook"
    vectors = _vectors(context) if start_at_codebooks else None
    titles = None
    if config.items.starts and config.items.start == "text":
        ids = load_semantic_ids(context)
        titles = ItemTitles(load_catalogue(context)["title"].to_list(), ids.codes[:, : ids.levels])
    dtype = torch.bfloat16 if config.trainer.precision == "bf16-true" else torch.float32
    backbone = build_backbone(config.backbone, spelled.sizes, max_tokens(config, spelled), vectors, dtype, titles)
    if config.items.representation == "composed":
        _compose(context, backbone)
    return backbone


def _vectors(context: StageContext) -> list[Tensor]:
    """Where the tokenizer puts the tokens of each level."""
    items, ids = context.config.items, load_semantic_ids(context)
    levels = ids.levels if items.codes is None or not items.own_token else items.codes
    codebooks = load_codebooks(context)
    if not codebooks:
        raise UserError(
            "items.start=codebook: the Semantic IDs of this tokenizer come without codebooks; use items.start=random",
            exit_code=2,
        )
    return level_vectors(codebooks, ids.codes[:, : ids.levels], levels, items.own_token)


def _compose(context: StageContext, backbone: Backbone) -> None:
    """Composes items' own tokens of rows of their codes, which start at the codebooks where there are any."""
    ids = load_semantic_ids(context)
    settings: Any = backbone.model.config
    codes, sizes = ids.codes[:, : ids.levels], ids.sizes[: ids.levels]
    generator = torch.Generator().manual_seed(context.config.seed)
    codebooks = load_codebooks(context) or [torch.randn(size, 32, generator=generator) for size in sizes]
    rows = started_rows(codebooks, codes, settings.hidden_size, getattr(settings, "initializer_range", 0.02))
    compose_rows(backbone.model, ComposedRows(rows, codes, backbone.vocabulary.first_ids[-1]))
