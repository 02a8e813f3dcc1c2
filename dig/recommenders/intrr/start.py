"""The IntRR that training begins with: its codebooks where the configuration wants them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dig.config import UserError
from dig.engine.stage import StageContext
from dig.generation.intrr import IntRR, IntRRSizes
from dig.generation.sid_rows import started_rows
from dig.recommenders.intrr import SPEC
from dig.stages.tokenize import load_codebooks, load_semantic_ids

__all__ = ["fresh_intrr"]

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
