"""What the stages around a policy share: its tokens, and where its weights lie."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from dig import modules
from dig.config import Config
from dig.engine.artifacts import read_json
from dig.engine.catalogue import Catalogue, stamp_config
from dig.engine.console import shown_rate
from dig.engine.stage import StageContext
from dig.generation.backbone import Backbone
from dig.generation.lora import save_adapter
from dig.generation.vocabulary import spelled_ids
from dig.quantization import SemanticIds
from dig.stages.tokenize import load_semantic_ids

__all__ = [
    "content_codes",
    "item_tokens",
    "load_spelled_ids",
    "max_tokens",
    "save_policy",
    "policy_summary",
]

_INSTRUCTION_TOKENS = 64  # room for the words of a text prompt


def load_spelled_ids(context: StageContext) -> SemanticIds:
    """The Semantic ID table as the backbone spells it."""
    return spelled_ids(load_semantic_ids(context), context.config.items)


def item_tokens(backbone: Backbone, ids: SemanticIds) -> Tensor:
    """(items, levels) vocabulary ids of each item's Semantic ID."""
    return backbone.vocabulary.encode(ids.codes)


def content_codes(ids: SemanticIds) -> Tensor:
    """(items, levels) codes without the collision suffix."""
    return ids.codes[:, : ids.levels]


def max_tokens(config: Config, ids: SemanticIds) -> int:
    """Positions that a backbone from scratch needs."""
    return (config.prompt.max_history + 1) * ids.codes.shape[1] + _INSTRUCTION_TOKENS


def save_policy(module: modules.PolicyModule, folder: Path, ids: SemanticIds, adapters: bool = False) -> None:
    """Writes the chosen weights as a plain transformers folder, with the Semantic ID table beside the tokenizer; an
    IntRR in its own format.

    Args:
        module: what was trained.
        folder: the stage's; the model lies in ``model``.
        ids: the table that tells which item a generated Semantic ID is.
        adapters: also leave the adapters themselves, in ``adapter``.
    """
    module.to("cpu", torch.float32)
    if adapters:
        save_adapter(module.model, folder / "adapter")
    catalogue = Catalogue.of(ids.item_ids)
    module.backbone.save(folder / "model", catalogue.stamp)
    stamp_config(folder / "model", catalogue)
    ids.save(folder / "model" / "semantic_ids.parquet")


def policy_summary(path: Path) -> str:
    """One line about a trained policy."""
    training = read_json(path / "training.json")
    name, value = next((key, value) for key, value in training.items() if key.startswith("valid/"))
    rate = training["samples_per_second"]
    speed = f", {shown_rate(rate)} samples/s" if rate else ""
    ended = f" ({training['ended']})" if "ended" in training else ""  # earlier artifacts do not say
    step = f" of step {training['step']:,}" if training.get("step") is not None else ""
    metric = f"validation {name.removeprefix('valid/')} {value:.4f} ({training['chosen']}{step})"
    return f"{training['steps']:,} steps{ended}{speed}; {metric}"
