"""embed: item text with its interests to vectors (IEID, first half)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from dig.config import Config
from dig.console import warn
from dig.embeddings import compose_texts, count_empty, encoder_fingerprint
from dig.embeddings.cache import content_keys
from dig.stages.base import Stage, StageContext, global_rank, select
from dig.stages.encoding import encode_texts
from dig.stages.label import load_interests
from dig.stages.mine import load_captions
from dig.stages.prepare import load_catalogue

__all__ = ["STAGE", "load_embeddings"]


def load_embeddings(context: StageContext) -> Tensor:
    """(items, dim) float32."""
    return load_file(context.file("embed", "embeddings.safetensors"))["embeddings"]


def _reads(config: Config) -> dict[str, Any]:
    keys = ("embedding.interests", "embedding.fields", "embedding.max_tokens", "embedding.instruction")
    return select(config, *keys) | {"encoder": encoder_fingerprint(config.embedding.text_encoder)}


def _build(context: StageContext, folder: Path) -> None:
    config = context.config.embedding
    texts = compose_texts(load_catalogue(context), load_captions(context), load_interests(context), config)
    empty = count_empty(texts)
    if empty and not global_rank():
        warn(f"embed: {empty} of {len(texts)} items have no text at all and share one vector")
    cache = encode_texts(context, folder, "embed", texts)
    if global_rank():
        return
    embeddings = cache.gather(content_keys(texts))
    save_file({"embeddings": embeddings.contiguous()}, folder / "embeddings.safetensors")


def _says(path: Path) -> str:
    items, dim = load_file(path / "embeddings.safetensors")["embeddings"].shape
    return f"{items:,} vectors of {dim} dimensions"


STAGE = Stage("embed", ("prepare", "mine", "label"), _reads, _build, _says, version=2, every_rank=True)
