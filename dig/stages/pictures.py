"""pictures: the catalogue's pictures to vectors, by open_clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import datamodules
from datamodules.fetching import item_pictures
from dig import modules
from dig.config import Config, UserError
from dig.config.schema import VisualConfig
from dig.embeddings.cache import content_keys
from dig.embeddings.clip import ClipModel, load_clip
from dig.embeddings.locate import clip_fingerprint
from dig.engine.artifacts import hash_file, read_json, write_json
from dig.engine.console import track, warn
from dig.engine.stage import Stage, StageContext, global_rank
from dig.pictures import picture_content
from dig.stages.encoding import absent, encode, encoding_precision, vector_cache
from dig.stages.prepare import load_catalogue, picture_fingerprint, picture_folder

__all__ = ["STAGE", "load_pictures", "visual_model"]

_SHOWN = 3


def load_pictures(context: StageContext) -> tuple[Tensor, Tensor]:
    """Vectors ``(items, dim)`` float32, and the mask ``(items,)`` of the items that have a picture."""
    tensors = load_file(context.file("pictures", "pictures.safetensors"))
    return tensors["vectors"], tensors["has_image"]


def visual_model(context: StageContext) -> VisualConfig:
    """The model that reads pictures: the tuned one, or the configured one as it is."""
    config = context.config.visual
    if not config.adapt.epochs:
        return config
    return replace(config, model=f"local-dir:{context.file('adapt', 'model')}", pretrained=None, config={})


def _config_keys(config: Config) -> dict[str, Any]:
    return {"model": clip_fingerprint(config.visual), "pictures": picture_fingerprint(config)}


def _build(context: StageContext, folder: Path) -> None:
    catalogue = load_catalogue(context)
    pictures = item_pictures(catalogue, picture_folder(context))
    config = visual_model(context)
    clip = load_clip(config)
    keys = content_keys(picture_content(path) for path in track(pictures.paths, "reading pictures"))
    cache = vector_cache(context, _recipe(context, clip))
    new = absent(context, folder, "pictures", cache, keys)
    if len(new):
        files = datamodules.PictureFiles(
            [pictures.paths[row] for row in new], keys[new], clip.preprocess, config.batch_size
        )
        encode(
            context,
            folder,
            modules.PictureEncoding(clip),
            datamodules.ContentDataModule(files, config.num_workers),
            cache,
        )
    if global_rank():
        return
    cache = vector_cache(context, _recipe(context, clip))
    readable = cache.find(keys)
    broken = [pictures.paths[row] for row in np.flatnonzero(~readable)]
    if len(broken) == len(keys):
        raise UserError(f"not one of the {len(keys)} pictures can be decoded, for example {broken[0]}")
    if broken:
        shown = ", ".join(path.name for path in broken[:_SHOWN])
        warn(
            f"pictures: {len(broken)} of {len(keys)} pictures cannot be decoded ({shown}"
            f"{', …' if len(broken) > _SHOWN else ''}); these items count as having none"
        )
    vectors = torch.zeros(len(catalogue), clip.dim)
    has_image = torch.zeros(len(catalogue), dtype=torch.bool)
    rows = torch.from_numpy(pictures.rows[readable])
    vectors[rows] = cache.gather(keys[readable])
    has_image[rows] = True
    save_file({"vectors": vectors, "has_image": has_image}, folder / "pictures.safetensors")
    write_json(
        folder / "report.json",
        {
            "items": len(catalogue),
            "pictures": int(has_image.sum()),
            "dim": clip.dim,
            "unnamed": pictures.unnamed,
            "missing": pictures.missing,
            "broken": len(broken),
        },
    )


def _recipe(context: StageContext, clip: ClipModel) -> dict[str, object]:
    """What decides a picture's vector besides its bytes."""
    config = context.config
    weights = clip_fingerprint(config.visual)
    if config.visual.adapt.epochs:
        weights = hash_file(context.file("adapt", "model") / "open_clip_model.safetensors")
    return {
        "kind": "picture",
        "weights": weights,
        "architecture": clip.model_config,
        "precision": encoding_precision(config.trainer),
    }


def _summary(path: Path) -> str:
    report = read_json(path / "report.json")
    lost = {"named none": report["unnamed"], "not found": report["missing"], "broken": report["broken"]}
    absent = ", ".join(f"{count:,} {what}" for what, count in lost.items() if count)
    line = f"{report['pictures']:,} of {report['items']:,} items have a picture, vectors of {report['dim']} dimensions"
    return f"{line} ({absent})" if absent else line


STAGE = Stage(
    "pictures",
    ("prepare",),
    _config_keys,
    _build,
    _summary,
    every_rank=True,
    optional_inputs=lambda config: ("adapt",) if config.visual.adapt.epochs else (),
    enabled=lambda config: config.looks_at_pictures,
)
