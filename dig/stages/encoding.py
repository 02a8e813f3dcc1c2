"""How the encoding stages encode: what is known by content is taken from the cache, the rest goes through a Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

import callbacks
import datamodules
from dig import modules
from dig.config.schema import TrainerConfig
from dig.embeddings import encoder_fingerprint, load_text_encoder
from dig.embeddings.cache import VectorCache, content_keys
from dig.engine.artifacts import SCRATCH, atomic_path, fingerprint
from dig.engine.console import progress_enabled, say
from dig.engine.lazy import lightning
from dig.engine.ranks import follow, global_rank, leading, world_size
from dig.engine.stage import StageContext, rank_patience
from dig.engine.strategy import interruptible, meeting, quiet, trainer_place

__all__ = ["absent", "encode", "encode_texts", "encoding_precision", "vector_cache"]


def vector_cache(context: StageContext, recipe: dict[str, object]) -> VectorCache:
    """The cache of one encoder with one recipe, shared by all experiments."""
    return VectorCache(context.store.root.parent / "vectors" / fingerprint(recipe))


def encoding_precision(config: TrainerConfig) -> str:
    """bfloat16 where the device computes in it, else float32."""
    on_gpu = config.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"


def encode_texts(context: StageContext, folder: Path, kind: str, texts: Sequence[str]) -> VectorCache:
    """A cache that holds the vector of every text under :func:`content_keys`, by the configured text encoder."""
    config = context.config.embedding
    distinct = sorted(set(texts))
    keys = content_keys(distinct)
    recipe = {
        "kind": "text",
        "encoder": encoder_fingerprint(config.text_encoder),
        "max_tokens": config.max_tokens,
        "instruction": config.instruction,
        "precision": encoding_precision(context.config.trainer),
    }
    cache = vector_cache(context, recipe)
    new = absent(context, folder, kind, cache, keys)
    if len(new):
        encoder = load_text_encoder(config.text_encoder, "cpu", config.max_tokens, config.instruction)
        files = datamodules.TextFiles([distinct[row] for row in new], keys[new], config.batch_size)
        encode(context, folder, modules.TextEncoding(encoder), datamodules.ContentDataModule(files), cache)
    return vector_cache(context, recipe)


def encode(
    context: StageContext,
    folder: Path,
    module: lightning.LightningModule,
    data: datamodules.ContentDataModule,
    cache: VectorCache,
) -> None:
    """Fills the cache with the vectors of all batches, on as many devices as the trainer is given.

    Interrupted, it continues: what stands in the cache is asked for no more.
    """
    if not len(data.batches):
        return
    config = context.config.trainer
    with quiet(), meeting("encoding"):
        trainer = lightning.Trainer(
            **trainer_place(config),
            precision=encoding_precision(config),  # type: ignore[arg-type]
            logger=False,
            callbacks=[callbacks.VectorWriter(cache), callbacks.Preemption(), *callbacks.progress_bar("encoding")],
            use_distributed_sampler=False,
            enable_progress_bar=progress_enabled(),
            enable_model_summary=False,
            enable_checkpointing=False,
            default_root_dir=folder,
        )
        with interruptible():
            trainer.predict(module, datamodule=data, return_predictions=False)
    if dist.is_available() and dist.is_initialized():
        dist.barrier()  # rank 0 gathers what all have written


def absent(context: StageContext, folder: Path, kind: str, cache: VectorCache, keys: np.ndarray) -> np.ndarray:
    """Which of the keys ``(n, 2)`` have no vector, as rank 0 sees it; tells how much of the work was done before.

    Another job may fill the same cache meanwhile, and ranks that saw different work would wait for each other forever.

    Args:
        context: the stage's.
        folder: where the stage builds.
        kind: what is encoded, for messages; each only once in a build.
        cache: the vectors known so far.
        keys: of the contents, the same on all ranks.
    """
    if world_size() == 1:
        return _absent(kind, cache, keys)
    word = folder.with_name(f"{folder.stem}.{kind}.ranks")  # outlives the folder: without work rank 0 is soon done
    decided = folder / SCRATCH / f"{kind}-absent.npy"
    if global_rank():
        follow(word, kind, rank_patience(context.config))
        return np.load(decided) if decided.exists() else np.empty(0, dtype=np.int64)
    with leading(word):
        rows = _absent(kind, cache, keys)
        decided.unlink(missing_ok=True)
        if len(rows):
            with atomic_path(decided) as temporary, temporary.open("wb") as stream:
                np.save(stream, rows)
    return rows


def _absent(kind: str, cache: VectorCache, keys: np.ndarray) -> np.ndarray:
    cached = cache.find(keys)
    if cached.any() and not cached.all():
        say(f"{kind}: {int(cached.sum()):,} of {len(cached):,} vectors come from the cache")
    return np.flatnonzero(~cached)
