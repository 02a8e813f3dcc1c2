"""embed: item text with its interests to vectors (IEID, first half)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dig.config import Config
from dig.console import warn
from dig.embeddings import compose_texts, count_empty, encoder_fingerprint, load_text_encoder
from dig.stages.base import Stage, StageContext, select
from dig.stages.label import load_interests
from dig.stages.mine import load_captions
from dig.stages.prepare import load_catalogue

__all__ = ["STAGE", "load_embeddings"]


def load_embeddings(context: StageContext) -> Tensor:
    """(items, dim) float32."""
    return load_file(context.file("embed", "embeddings.safetensors"))["embeddings"]


def _reads(config: Config) -> dict[str, Any]:
    keys = ("embedding.interests", "embedding.fields", "embedding.max_tokens")
    return select(config, *keys) | {"encoder": encoder_fingerprint(config.embedding.text_encoder)}


def _build(context: StageContext, folder: Path) -> None:
    config = context.config.embedding
    texts = compose_texts(load_catalogue(context), load_captions(context), load_interests(context), config)
    empty = count_empty(texts)
    if empty:
        warn(f"embed: {empty} of {len(texts)} items have no text at all and share one vector")
    encoder = load_text_encoder(config.text_encoder, max_tokens=config.max_tokens)
    embeddings = encoder.encode(texts, config.batch_size)
    save_file({"embeddings": embeddings.to(torch.float32).contiguous()}, folder / "embeddings.safetensors")


def _says(path: Path) -> str:
    items, dim = load_file(path / "embeddings.safetensors")["embeddings"].shape
    return f"{items:,} vectors of {dim} dimensions"


STAGE = Stage("embed", ("prepare", "mine", "label"), _reads, _build, _says)
