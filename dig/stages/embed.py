"""embed: item text with its interests to vectors (IEID, first half), or vectors of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from dig.config import Config
from dig.embeddings import compose_texts, count_empty, encoder_fingerprint
from dig.embeddings.cache import content_keys
from dig.embeddings.item_vectors import read_item_vectors, vectors_fingerprint
from dig.engine.console import say, warn
from dig.engine.stage import Stage, StageContext, global_rank, select
from dig.stages.encoding import encode_texts
from dig.stages.label import load_interests
from dig.stages.mine import load_captions
from dig.stages.prepare import load_catalogue

__all__ = ["STAGE", "load_embeddings"]


def load_embeddings(context: StageContext) -> Tensor:
    """(items, dim) float32."""
    return load_file(context.file("embed", "embeddings.safetensors"))["embeddings"]


def _config_keys(config: Config) -> dict[str, Any]:
    if config.embedding.vectors:  # what it holds counts, not where it lies
        return {"vectors": vectors_fingerprint(_vectors_file(config))}
    keys = ("embedding.interests", "embedding.fields", "embedding.max_tokens", "embedding.instruction")
    return select(config, *keys) | {"encoder": encoder_fingerprint(config.embedding.text_encoder)}


def _build(context: StageContext, folder: Path) -> None:
    config = context.config.embedding
    if config.vectors:
        _take(context, folder)
        return
    texts = compose_texts(load_catalogue(context), load_captions(context), load_interests(context), config)
    empty = count_empty(texts)
    if empty and not global_rank():
        warn(f"embed: {empty} of {len(texts)} items have no text at all and share one vector")
    cache = encode_texts(context, folder, "embed", texts)
    if global_rank():
        return
    embeddings = cache.gather(content_keys(texts))
    save_file({"embeddings": embeddings.contiguous()}, folder / "embeddings.safetensors")


def _vectors_file(config: Config) -> Path:
    return Path(str(config.embedding.vectors)).expanduser()


def _take(context: StageContext, folder: Path) -> None:
    """Writes the vectors of ``embedding.vectors`` in the catalogue's order."""
    if global_rank():
        return
    path = _vectors_file(context.config)
    vectors, unknown = read_item_vectors(path, load_catalogue(context)["item_id"].to_list())
    if unknown:
        say(
            f"embed: {unknown:,} of {len(vectors) + unknown:,} vectors of {path} are of items that the catalogue does "
            "not have; they are left out"
        )
    empty = int((vectors == 0).all(dim=1).sum())
    if empty:
        warn(f"embed: {empty:,} of {len(vectors):,} items have a vector of zeros in {path}")
    save_file({"embeddings": vectors.contiguous()}, folder / "embeddings.safetensors")


def _summary(path: Path) -> str:
    items, dim = load_file(path / "embeddings.safetensors")["embeddings"].shape
    return f"{items:,} vectors of {dim} dimensions"


STAGE = Stage(
    "embed",
    ("prepare",),
    _config_keys,
    _build,
    _summary,
    version=2,
    every_rank=True,
    optional_inputs=lambda config: () if config.embedding.vectors else ("mine", "label"),
)
