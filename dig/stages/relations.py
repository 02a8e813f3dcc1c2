"""relations: which items belong together, by behaviour in the training part and by meaning (IIRG, arXiv 2606.17276)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from datamodules.histories import Histories
from datamodules.leakage import write_items_seen
from datamodules.relations import relation_tables
from datamodules.splits import leading_items
from dig.config import Config, UserError
from dig.engine.artifacts import read_json, write_json
from dig.engine.stage import Stage, StageContext, select
from dig.stages.embed import load_embeddings
from dig.stages.prepare import load_catalogue, load_sequences

__all__ = ["STAGE", "load_relations"]

_FILE = "relations.safetensors"


def load_relations(context: StageContext) -> dict[str, np.ndarray]:
    """Tables by the name of the task that reads them: (items, kept) int32 catalogue rows, best first, -1 for none."""
    return load_file(context.file("relations", _FILE))


def _config_keys(config: Config) -> dict[str, Any]:
    tables = config.relation_tasks
    keys = select(config, "relations") | {"tables": sorted(tables)}
    return keys | (select(config, "seed") if config.relations.draws(tables) else {})


def _build(context: StageContext, folder: Path) -> None:
    config, tasks = context.config.relations, context.config.relation_tasks
    sequences, item_ids = load_sequences(context), load_catalogue(context)["item_id"]
    tables, facts = relation_tables(
        config, tasks, sequences.train, len(item_ids), lambda: _vectors(context), context.config.seed
    )
    save_file(tables, folder / _FILE)
    write_json(folder / "relations.json", {"items": len(item_ids), **facts})
    nothing = Histories(sequences.items, sequences.offsets[:-1], sequences.offsets[:-1])
    counted = "collaborative" in tasks and config.collaborative != "random"
    write_items_seen(folder, sequences, leading_items(sequences, sequences.train) if counted else nothing, item_ids)


def _vectors(context: StageContext) -> Tensor:
    """Vectors that tell items apart.

    Raises:
        UserError: they do not.
    """
    vectors = load_embeddings(context)
    finite = torch.isfinite(vectors.sum(dim=1))
    if not bool(finite.all()):
        item = load_catalogue(context)["item_id"][int(torch.nonzero(~finite)[0])]
        raise UserError(f"relations: the vector of item {item} holds what is not a number; see embedding.text_encoder")
    if len(vectors) > 1 and bool((vectors == vectors[0]).all()):
        raise UserError(
            f"relations: all {len(vectors):,} items have the same text vector, so none is more like "
            f"another; give them text (embedding.fields, embedding.interests), or do without: "
            f"{_without(context.config)}"
        )
    return vectors


def _without(config: Config) -> str:
    """The keys that need no vectors."""
    keys = []
    if "semantic" in config.relation_tasks and config.relations.semantic != "random":
        keys.append("sft.tasks.semantic.share=0")
    if config.relations.compares_texts(config.relation_tasks - {"semantic"}):
        keys.append("relations.fill=false")
    return " ".join(keys)


def _summary(path: Path) -> str:
    facts = read_json(path / "relations.json")
    parts = []
    for name in ("collaborative", "semantic"):
        if name in facts:
            own = f", {facts[name]['own']:.1f} of its own" if "own" in facts[name] else ""
            parts.append(f"{name} ({facts[name]['mode']}): {facts[name]['neighbours']:.1f} neighbours per item{own}")
    search = facts.get("search", {})
    if "recall" in search:
        parts.append(f"texts compared in cells, which finds {search['recall']:.1%} of the five nearest")
    return "; ".join(parts)


STAGE = Stage(
    "relations",
    ("prepare",),
    _config_keys,
    _build,
    _summary,
    optional_inputs=lambda config: ("embed",) if config.relations.compares_texts(config.relation_tasks) else (),
    enabled=lambda config: bool(config.relation_tasks),
)
