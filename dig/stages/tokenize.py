"""tokenize: vectors to Semantic IDs by the RQ-VAE (IEID, second half)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
from safetensors.torch import save_file

from callbacks.codebook import CodebookHealth
from datamodules.items import ItemDataModule
from dig.artifacts import read_json, write_json
from dig.config import Config
from dig.evaluation.codebook import collision_rate, largest_collision, perplexity, usage
from dig.modules.rqvae import RQVAEModule
from dig.quantization import SemanticIds
from dig.stages.base import Stage, StageContext
from dig.stages.embed import load_embeddings
from dig.stages.prepare import load_catalogue
from dig.stages.training import Plan, fit, reads_training

__all__ = ["STAGE", "load_semantic_ids"]


def load_semantic_ids(context: StageContext) -> SemanticIds:
    """The Semantic ID table."""
    return SemanticIds.load(context.file("tokenize", "semantic_ids.parquet"))


def _reads(config: Config) -> dict[str, Any]:
    return reads_training(config, "rqvae")


def _build(context: StageContext, folder: Path) -> None:
    config = context.config
    lightning.seed_everything(config.seed, verbose=False)
    embeddings = load_embeddings(context)
    module = RQVAEModule(embeddings.shape[1], config.rqvae)
    data = ItemDataModule(embeddings, config.rqvae.batch_size, config.seed)
    plan = Plan("tokenize", _reads(config), config.rqvae.epochs, callbacks=(CodebookHealth(),))
    fit(plan, module, data, context, folder)
    if not module.trainer.is_global_zero:
        return
    codes = module.assign_codes(embeddings)
    ids = SemanticIds.from_codes(load_catalogue(context)["item_id"].to_list(), codes, config.rqvae.sizes)
    ids.save(folder / "semantic_ids.parquet")
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, folder / "rqvae.safetensors")
    health = {
        "sizes": config.rqvae.sizes,
        "usage": [round(float(value), 6) for value in usage(codes, config.rqvae.sizes)],
        "perplexity": [round(float(value), 3) for value in perplexity(codes, config.rqvae.sizes)],
        "collision_rate": float(collision_rate(codes)),
        "largest_collision": int(largest_collision(codes)),
    }
    write_json(folder / "health.json", health)


def _says(path: Path) -> str:
    health = read_json(path / "health.json")
    used = ", ".join(f"{share:.0%} of {size}" for share, size in zip(health["usage"], health["sizes"], strict=True))
    return (f"codes used a level: {used}; {health['collision_rate']:.1%} of the items share their codes and have a "
            f"suffix (largest set {health['largest_collision']})")  # fmt: skip


STAGE = Stage("tokenize", ("prepare", "embed"), _reads, _build, _says, every_rank=True)
