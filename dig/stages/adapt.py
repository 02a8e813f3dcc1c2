"""adapt: an open_clip model tuned on the catalogue's own pictures and texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

import datamodules
from datamodules.fetching import item_pictures
from dig import modules
from dig.config import Config, UserError
from dig.config.schema import EmbeddingConfig
from dig.embeddings.clip import ClipModel, load_clip, save_clip
from dig.embeddings.compose import compose_texts
from dig.engine.artifacts import read_json, write_json
from dig.engine.console import track
from dig.engine.lazy import lightning
from dig.engine.stage import Stage, StageContext, select
from dig.engine.training import Plan, fit, reads_training
from dig.interests import INTEREST_SCHEMA, read_captions
from dig.stages.prepare import load_catalogue, picture_fingerprint, picture_folder

__all__ = ["STAGE"]

_MIN_PAIRS = 8


def _config_keys(config: Config) -> dict[str, Any]:
    from dig.embeddings.locate import clip_fingerprint

    captions = select(config, "mining.captions") if "caption" in config.visual.adapt.fields else {}
    return (
        reads_training(config, "visual.adapt")
        | captions
        | {"model": clip_fingerprint(config.visual), "pictures": picture_fingerprint(config)}
    )


def _build(context: StageContext, folder: Path) -> None:
    config = context.config.visual
    lightning.seed_everything(context.config.seed, verbose=False)
    clip = load_clip(config)
    catalogue = load_catalogue(context)
    pictures = item_pictures(catalogue, picture_folder(context))
    texts = _texts(context, catalogue)
    candidates = track(range(len(pictures.rows)), "reading pictures", len(pictures.rows))
    rows = [
        row
        for row in candidates
        if texts[pictures.rows[row]] and datamodules.open_picture(pictures.paths[row], clip.preprocess) is not None
    ]
    if len(rows) < _MIN_PAIRS:
        raise UserError(
            f"visual.adapt: {len(rows)} items have a picture that can be read and a text, "
            f"{_MIN_PAIRS} are needed; set visual.adapt.epochs=0"
        )
    order = np.random.default_rng(context.config.seed).permutation(rows)
    held = int(config.adapt.holdout * len(order))
    unseen, seen = order[:held], order[held:]
    paths = [pictures.paths[row] for row in seen]
    own = [texts[pictures.rows[row]] for row in seen]
    pairs = datamodules.PicturePairs(paths, own, clip.preprocess, clip.tokenize)
    data = datamodules.PairDataModule(pairs, config.adapt.batch_size, context.config.seed, config.num_workers)
    module = modules.CLIPModule(clip, config.adapt)
    fit(
        Plan("adapt", _config_keys(context.config), config.adapt.epochs, gradient_clip_val=1.0),
        module,
        data,
        context,
        folder,
    )
    if not module.trainer.is_global_zero:
        return
    module.to("cpu", torch.float32)
    save_clip(clip, folder / "model")
    percentile = _rank_percentile(
        clip, [pictures.paths[row] for row in unseen], [texts[pictures.rows[row]] for row in unseen]
    )
    write_json(folder / "report.json", {"pairs": len(seen), "held_out": len(unseen), "found": percentile})


def _texts(context: StageContext, catalogue: pl.DataFrame) -> list[str]:
    config = context.config
    captions: dict[str, str] = {}
    if "caption" in config.visual.adapt.fields and config.mining.captions:
        captions = read_captions(Path(config.mining.captions).expanduser(), set(catalogue["item_id"]))
    fields = EmbeddingConfig(fields=config.visual.adapt.fields, interests="none")
    return compose_texts(catalogue, captions, pl.DataFrame(schema=INTEREST_SCHEMA), fields)


@torch.inference_mode()
def _rank_percentile(clip: ClipModel, paths: list[Path], texts: list[str]) -> float | None:
    """Mean rank percentile of a held-out picture's own text among all held-out texts: 1 is first, 0.5 is chance."""
    if len(paths) < 2:
        return None
    pixels = [datamodules.open_picture(path, clip.preprocess) for path in paths]
    pictures = torch.cat([clip.encode_pictures(pixel[None]) for pixel in pixels if pixel is not None])
    similarity = pictures @ clip.encode_texts(texts).T
    better = (similarity < similarity.diagonal()[:, None]).float().sum(dim=1) / (len(texts) - 1)
    return round(float(better.mean()), 4)


def _summary(path: Path) -> str:
    report = read_json(path / "report.json")
    line = f"open_clip tuned on {report['pairs']:,} pictures and their texts"
    if report["found"] is None:
        return line
    return f"{line}; an unseen picture prefers its own text to {report['found']:.0%} of the others (chance 50%)"


STAGE = Stage(
    "adapt",
    ("prepare",),
    _config_keys,
    _build,
    _summary,
    every_rank=True,
    enabled=lambda config: config.looks_at_pictures and config.visual.adapt.epochs > 0,
)
