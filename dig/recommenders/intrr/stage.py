"""intrr: the baseline that reads one vector per item and chooses the next one's codes in one small network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from datamodules.leakage import guard_artifact
from dig.config import Config, UserError
from dig.engine.lazy import lightning
from dig.engine.stage import Stage, StageContext
from dig.engine.training import reads_training
from dig.generation.intrr import IntRR, IntRRSizes
from dig.generation.sid_rows import started_rows
from dig.recommenders import intrr
from dig.recommenders.intrr import SPEC
from dig.recommenders.training import train_on_items
from dig.stages.policies import policy_summary
from dig.stages.prepare import load_catalogue, load_sequences, load_stamp
from dig.stages.tokenize import follows_behaviour, load_codebooks, load_semantic_ids

__all__ = [
    "STAGE",
    "fresh_intrr",
]


def _config_keys(config: Config) -> dict[str, Any]:
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
    if train_on_items("intrr", settings, _config_keys(config), module, context, folder):
        model.save(folder / "model", load_stamp(context))


STAGE = Stage(
    intrr.SPEC.name,
    intrr.SPEC.needs,
    _config_keys,
    _build,
    policy_summary,
    every_rank=True,
    enabled=lambda config: "intrr" in config.baselines,
)


_SPREAD = 0.02
"""Standard deviation of an item's sum of codes at the start."""


def fresh_intrr(context: StageContext, **shape: Any) -> IntRR:
    """An IntRR for the Semantic IDs of a run.

    Args:
        context: the stage's.
        shape: of the transformer, as in `IntRRSizes`; the rest is ``intrr.assignment``.

    Raises:
        UserError: codebooks are to start at the tokenizer's, and it has none.
    """
    ids, settings = load_semantic_ids(context), SPEC.of(context.config).assignment
    model = IntRR(ids.codes, IntRRSizes.of(ids.sizes, settings, **shape))
    if settings.start == "codebook":
        _start_at_codebooks(context, model)
    return model


@torch.no_grad()
def _start_at_codebooks(context: StageContext, model: IntRR) -> None:
    """Codes start where the tokenizer has them, projected at random, which keeps angles; the suffix level, which it
    does not know, at random. The items' own embeddings start at random in the same space."""
    ids, sizes = load_semantic_ids(context), model.sizes
    codebooks = load_codebooks(context)
    if not codebooks:
        raise UserError(
            "intrr.assignment.start=codebook: the Semantic IDs of this tokenizer come without codebooks; "
            "use intrr.assignment.start=random",
            exit_code=2,
        )
    codes = ids.codes[:, : ids.levels]
    rows = started_rows(codebooks, codes, sizes.hidden_size, _SPREAD)
    for codebook, start in zip(model.assign.codebooks, rows, strict=False):
        codebook.copy_(start)
    nn.init.eye_(model.project.weight)
    nn.init.zeros_(model.project.bias)
