"""What the rewards of GRPO know of items, as far as any of their terms asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.splits import Sequences
from dig.config import UserError
from dig.embeddings.cache import content_keys
from dig.quantization import SemanticIds
from dig.rollouts.rewards import ItemKnowledge
from dig.stages.base import StageContext
from dig.stages.embed import load_embeddings
from dig.stages.encoding import encode_texts
from dig.stages.known import interests_of_items
from dig.stages.label import load_quality
from dig.stages.policies import content_codes
from dig.stages.prepare import load_catalogue
from dig.stages.reward_needs import active_needs
from dig.stages.sasrec import load_sasrec

__all__ = ["item_knowledge"]


def item_knowledge(context: StageContext, folder: Path, sequences: Sequences, ids: SemanticIds) -> ItemKnowledge:
    """The facts, each looked up only if a term asks for it.

    Args:
        context: the stage's.
        folder: the stage's, for encodings.
        sequences: the split.
        ids: the items' Semantic IDs, suffix included.

    Raises:
        UserError: a term needs what the items do not have (which stage gives it).
    """
    needs = active_needs(context.config)
    item_ids = load_catalogue(context)["item_id"].to_list()
    sources: dict[str, Callable[[], Any]] = {
        "codes": lambda: content_codes(ids),
        "quality": lambda: _quality(context, needs["quality"]),
        "interests": lambda: _interest_vectors(context, folder, needs["interests"], item_ids),
        "vectors": lambda: F.normalize(load_embeddings(context), dim=1),
        "counts": lambda: torch.from_numpy(np.bincount(sequences.train.flat(), minlength=len(item_ids))),
        "sequential": lambda: load_sasrec(context),
    }
    return ItemKnowledge(**{need: sources[need]() for need in sorted(needs)}, item_ids=item_ids)


def _quality(context: StageContext, term: str) -> Tensor:
    quality = torch.from_numpy(load_quality(context).copy())
    if not bool(quality.any()):
        raise UserError(f"grpo.reward.{term} pays by the quality of interests, and no item has an interest that is "
                        f"labelled positive: look at mining.miners and labels (stages mine and label), or set "
                        f"grpo.reward.{term}=0")  # fmt: skip
    return quality


def _interest_vectors(context: StageContext, folder: Path, term: str, item_ids: list[str]) -> Tensor:
    """(items, dim) of length 1; 0 where an item has no positive interest."""
    texts = interests_of_items(context, item_ids)
    there = [row for row, text in enumerate(texts) if text]
    if not there:
        raise UserError(f"grpo.reward.{term} compares positive interests, and no item has any: look at mining.miners "
                        f"and labels (stages mine and label), or set grpo.reward.{term}=0")  # fmt: skip
    known = [text for text in texts if text]
    found = F.normalize(encode_texts(context, folder, "grpo", known).gather(content_keys(known)), dim=1)
    vectors = torch.zeros(len(texts), found.shape[1])
    vectors[there] = found
    return vectors
