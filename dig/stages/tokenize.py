"""tokenize: vectors to Semantic IDs (IEID, second half)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import callbacks
import datamodules
from datamodules.leakage import write_items_seen
from dig import modules
from dig.config import Config, UserError
from dig.engine.artifacts import hash_file, read_json, write_json
from dig.engine.console import warn
from dig.engine.lazy import lightning
from dig.engine.stage import Stage, StageContext, global_rank
from dig.engine.training import Plan, fit, reads_training
from dig.evaluation.codebook import (
    collision_rate,
    dead_codes,
    largest_collision,
    neighbour_recall,
    perplexity,
    prefix_purity,
    usage,
)
from dig.interests.supervision import CoPurchases, count_copurchases
from dig.quantization import ItemFeatures, SemanticIds, check_features, reassign, residual_kmeans
from dig.quantization.features import ItemFusion, behaviour_vectors
from dig.quantization.semantic_ids import read_codes
from dig.report.code_tree import code_tree_svg
from dig.stages.embed import load_embeddings
from dig.stages.pictures import load_pictures
from dig.stages.prepare import load_catalogue, load_sequences

__all__ = ["STAGE", "follows_behaviour", "load_codebooks", "load_semantic_ids"]


class _Tokens(NamedTuple):
    """What a tokenizer leaves."""

    codes: Tensor
    """``(items, levels)``."""
    costs: Callable[[Tensor], Tensor] | None
    """What each last code would cost items, for reassignment: rows ``(n,)`` → ``(n, codes)``; None if nobody knows."""
    error: Callable[[Tensor], float] | None
    """Mean squared error of the standardised vectors when codes ``(items, levels)`` stand for them; about 1 says
    nothing."""
    state: dict[str, Tensor]


def load_semantic_ids(context: StageContext) -> SemanticIds:
    """The Semantic ID table."""
    return SemanticIds.load(context.file("tokenize", "semantic_ids.parquet"))


def load_codebooks(context: StageContext) -> list[Tensor]:
    """(codes, dim) vectors of each level's codes."""
    state = load_file(context.file("tokenize", "tokenizer.safetensors"))
    names = (name for name in state if re.fullmatch(r"(quantizer\.)?codebooks\.\d+", name))
    return [state[name] for name in sorted(names, key=lambda name: int(name.rsplit(".", 1)[-1]))]


def _config_keys(config: Config) -> dict[str, Any]:
    read = reads_training(config, "rqvae") | {"rqvae.inputs": config.input_kind}
    if config.rqvae.imported and _imported_file(config).is_file():  # what it holds counts, not where it lies
        read["rqvae"] |= {"imported": hash_file(_imported_file(config))}
    return read


def _build(context: StageContext, folder: Path) -> None:
    config = context.config.rqvae
    lightning.seed_everything(context.config.seed, verbose=False)
    catalogue, sequences = load_catalogue(context), load_sequences(context)
    item_ids = catalogue["item_id"].to_list()
    bought = count_copurchases(sequences.train, len(catalogue))
    features = _features(context, bought)
    check_features(features, item_ids)
    _warn_of_few(features, config.sizes)
    if config.tokenizer == "imported":
        tokens = _import(context, item_ids)
    elif config.tokenizer == "rqvae":
        tokens = _train(context, folder, features, bought)
    else:
        tokens = _cluster(context, features)
    if tokens is None:  # another rank than 0
        return
    before = codes = tokens.codes
    if config.collisions == "reassign" and tokens.costs:
        codes = reassign(before, tokens.costs, config.sizes[-1])
    ids = SemanticIds.from_codes(item_ids, codes, config.sizes, duplicates=config.collisions == "keep")
    ids.save(folder / "semantic_ids.parquet")
    save_file({name: value.contiguous() for name, value in tokens.state.items()}, folder / "tokenizer.safetensors")
    (folder / "codes.svg").write_text(code_tree_svg(ids.codes, ids.sizes), encoding="utf-8")
    if follows_behaviour(context.config):
        write_items_seen(folder, sequences, sequences.train, catalogue["item_id"])
    health = _health(before, codes, config.sizes, bought, [path[-1] if path else None for path in _paths(catalogue)])
    treated = "suffix" if tokens.costs is None and config.collisions == "reassign" else config.collisions
    reconstruction = None if tokens.error is None else round(tokens.error(codes), 4)
    write_json(
        folder / "health.json",
        {"tokenizer": config.tokenizer, "collisions": treated, "reconstruction": reconstruction, **health},
    )


def _features(context: StageContext, bought: CoPurchases) -> ItemFeatures:
    config = context.config.rqvae
    behaviour = None
    if config.tokenizer == "rqvae" and config.collaborative_weight:
        behaviour = behaviour_vectors(bought.left, bought.right, bought.users, bought.items, config.collaborative_dim)
    kind = context.config.input_kind
    text = None if kind == "image" else load_embeddings(context)
    image, has_image = (None, None) if kind == "text" else load_pictures(context)
    if text is None and has_image is not None and not has_image.all():
        warn(f"tokenize: {int((~has_image).sum())} items have no picture and with rqvae.inputs=image share one vector")
    return ItemFeatures(text, image, has_image, behaviour)


def follows_behaviour(config: Config) -> bool:
    """Whether the codes learn from histories, so that they must tell which items they saw."""
    weights = (config.rqvae.info_nce_weight, config.rqvae.collaborative_weight)
    return config.rqvae.tokenizer == "rqvae" and any(weights)


def _train(context: StageContext, folder: Path, features: ItemFeatures, bought: CoPurchases) -> _Tokens | None:
    config = context.config
    behaviour_dim = 0 if features.behaviour is None else features.behaviour.shape[1]
    module = modules.RQVAEModule(config.rqvae, features.text_dim, features.image_dim, behaviour_dim)
    pairs = config.rqvae.info_nce_weight > 0
    partners = datamodules.Partners(bought.left, bought.right, bought.items, config.seed) if pairs else None
    data = datamodules.ItemDataModule(features, config.rqvae.batch_size, config.seed, partners=partners)
    attainable = [min(1.0, features.items / size) for size in config.rqvae.sizes]
    health = callbacks.CodebookHealth(2 * config.rqvae.restart_after, attainable)  # a restart may need a second attempt
    plan = Plan("tokenize", _config_keys(config), config.rqvae.epochs, callbacks=(health,))
    fit(plan, module, data, context, folder)
    if not module.trainer.is_global_zero:
        return None
    codes = module.assign_codes(features)
    return _Tokens(
        codes,
        lambda rows: module.last_level_distances(features.take(rows), codes[rows]),
        lambda codes: module.reconstruction_error(features, codes),
        dict(module.state_dict()),
    )


def _cluster(context: StageContext, features: ItemFeatures) -> _Tokens | None:
    if global_rank():
        return None
    config = context.config.rqvae
    fusion = ItemFusion(features.text_dim, features.image_dim, image_weight=config.image_weight)
    fusion.fit(features)
    points = torch.cat([fusion.blocks(fusion.standardise(chunk)) for chunk in features.chunks(65_536)])
    generator = torch.Generator().manual_seed(context.config.seed)
    clusters = residual_kmeans(points, config.sizes, config.kmeans_iterations, config.tokenizer != "kmeans", generator)

    def decode(codes: Tensor) -> Tensor:
        levels = zip(clusters.codebooks, codes.unbind(dim=1), strict=False)
        return sum((codebook[chosen] for codebook, chosen in levels), torch.zeros(()))

    def costs(rows: Tensor) -> Tensor:
        return torch.cdist(points[rows] - decode(clusters.codes[rows, :-1]), clusters.codebooks[-1]).square()

    def error(codes: Tensor) -> float:
        return float((points - decode(codes)).square().mean() / points.square().mean())

    codebooks = {f"codebooks.{level}": codebook for level, codebook in enumerate(clusters.codebooks)}
    return _Tokens(clusters.codes, costs, error, {**codebooks, **fusion.state_dict()})


def _import(context: StageContext, item_ids: list[str]) -> _Tokens | None:
    if global_rank():
        return None
    config = context.config.rqvae
    path = _imported_file(context.config)
    codes = read_codes(path, config.imported_name, item_ids, config.levels)
    largest = codes.max(dim=0).values.tolist()
    over = [level for level, size in enumerate(config.sizes) if largest[level] >= size]
    if over:
        raise UserError(
            f"{path}: level {over[0] + 1} has the code {largest[over[0]]}, and rqvae.codebook_size allows "
            f"{config.sizes[over[0]]} codes"
        )
    return _Tokens(codes, None, None, {"codes": codes})


def _imported_file(config: Config) -> Path:
    return Path(str(config.rqvae.imported)).expanduser()


def _warn_of_few(features: ItemFeatures, sizes: list[int]) -> None:
    """Says what no tokenizer can mend: fewer different items than codes."""
    vectors = features.text if features.text is not None else features.image
    if vectors is None:
        raise AssertionError("features were checked")
    if features.items == 1:
        raise UserError("tokenize: the catalogue has one item, so there is nothing to tell apart")
    if features.image is None and features.items < 100_000 and len(torch.unique(vectors, dim=0)) == 1:
        raise UserError(
            "tokenize: all items have the same vector, so no Semantic ID can tell them apart; see "
            "embedding.fields and embedding.interests"
        )
    if features.items < max(sizes):
        warn(
            f"tokenize: {features.items} items cannot use {max(sizes)} codes per level; a rqvae.codebook_size of about "
            f"{max(2, int(features.items**0.5))} would fit"
        )


def _health(
    before: Tensor, after: Tensor, sizes: list[int], bought: CoPurchases, categories: list[str | None]
) -> dict[str, Any]:
    """Measures of the codes before collisions are treated, since a treatment only tells duplicates apart."""
    rounded = lambda values, digits: [None if np.isnan(value) else round(float(value), digits) for value in values]  # noqa: E731
    health: dict[str, Any] = {
        "items": len(before),
        "sizes": sizes,
        "usage": rounded(usage(before, sizes), 6),
        "perplexity": rounded(perplexity(before, sizes), 3),
        "dead_codes": dead_codes(before, sizes).tolist(),
        "collision_rate": collision_rate(before),
        "largest_collision": largest_collision(before),
        "collision_rate_after": collision_rate(after),
        "purity": rounded(prefix_purity(before, categories), 4),
    }
    if len(bought.left):
        recall = neighbour_recall(before, bought.left, bought.right, bought.users)
        health["neighbour_share"] = rounded(recall.share, 6)
        health["neighbour_lift"] = rounded(recall.lift, 2)
    return health


def _paths(catalogue: Any) -> list[list[str] | None]:
    """Each item's category path."""
    return catalogue["categories"].to_list() if "categories" in catalogue.columns else [None] * len(catalogue)


def _summary(path: Path) -> str:
    health = read_json(path / "health.json")
    used = ", ".join(f"{share:.0%} of {size}" for share, size in zip(health["usage"], health["sizes"], strict=True))
    ends = {"suffix": "have a suffix", "keep": "keep them", "reassign": "were moved"}[health["collisions"]]
    line = (
        f"codes used per level: {used}; {health['collision_rate']:.1%} of the items share their codes and {ends} "
        f"(largest set {health['largest_collision']})"
    )
    lifts = [f"{lift:.0f}" for lift in health.get("neighbour_lift", []) if lift is not None]
    if not lifts:
        return line
    return f"{line}; co-purchased items share leading codes {', '.join(lifts)} times as often as chance"


STAGE = Stage(
    "tokenize",
    ("prepare", "embed"),
    _config_keys,
    _build,
    _summary,
    version=4,
    every_rank=True,
    optional_inputs=lambda config: () if config.input_kind == "text" else ("pictures",),
)
