"""embed: item text with its interests to vectors (IEID, first half)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from datamodules.contents import ContentDataModule, TextFiles
from dig.config import Config
from dig.console import warn
from dig.embeddings import compose_texts, count_empty, encoder_fingerprint, load_text_encoder
from dig.embeddings.cache import content_keys
from dig.modules.encoders import TextEncoding
from dig.stages.base import Stage, StageContext, global_rank, select
from dig.stages.encoding import encode, encoding_precision, say_reuse, vector_cache
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
    distinct = sorted(set(texts))
    keys = content_keys(distinct)
    recipe = {"kind": "text", "encoder": encoder_fingerprint(config.text_encoder), "max_tokens": config.max_tokens,
              "instruction": config.instruction, "precision": encoding_precision(context.config.trainer)}  # fmt: skip
    cache = vector_cache(context, recipe)
    known = cache.find(keys)
    new = np.flatnonzero(~known)
    if len(new):
        if not global_rank():
            say_reuse("embed", known)
        encoder = load_text_encoder(config.text_encoder, "cpu", config.max_tokens, config.instruction)
        files = TextFiles([distinct[row] for row in new], keys[new], config.batch_size)
        encode(context, folder, TextEncoding(encoder), ContentDataModule(files), cache)
    if global_rank():
        return
    embeddings = vector_cache(context, recipe).gather(content_keys(texts))
    save_file({"embeddings": embeddings.contiguous()}, folder / "embeddings.safetensors")


def _says(path: Path) -> str:
    items, dim = load_file(path / "embeddings.safetensors")["embeddings"].shape
    return f"{items:,} vectors of {dim} dimensions"


STAGE = Stage("embed", ("prepare", "mine", "label"), _reads, _build, _says, version=2, every_rank=True)
