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
from datamodules.relations import (
    EXACT_ITEMS,
    collaborative_neighbours,
    fill_from_similar,
    nearest_in_cells,
    other_items_rows,
    random_neighbours,
    search_recall,
    semantic_neighbours,
)
from datamodules.splits import Sequences, leading_items
from dig.artifacts import read_json, write_json
from dig.config import Config, UserError
from dig.stages.base import Stage, StageContext, select
from dig.stages.embed import load_embeddings
from dig.stages.prepare import load_catalogue, load_sequences

__all__ = ["STAGE", "load_relations"]

_FILE = "relations.safetensors"


def load_relations(context: StageContext) -> dict[str, np.ndarray]:
    """Tables by the name of the task that reads them: (items, kept) int32 catalogue rows, best first, -1 for none."""
    return load_file(context.file("relations", _FILE))


def _reads(config: Config) -> dict[str, Any]:
    tables = config.relation_tasks
    found = select(config, "relations") | {"tables": sorted(tables)}
    return found | (select(config, "seed") if config.relations.draws(tables) else {})


def _build(context: StageContext, folder: Path) -> None:
    config, tables = context.config.relations, context.config.relation_tasks
    sequences, catalogue = load_sequences(context), load_catalogue(context)
    facts: dict[str, Any] = {}
    similar = _similar(context, len(catalogue), facts) if config.compares_texts(tables) else None
    found = {name: _TABLES[name](context, sequences, len(catalogue), similar, facts) for name in sorted(tables)}
    save_file({name: np.ascontiguousarray(table.astype(np.int32)) for name, table in found.items()}, folder / _FILE)
    facts |= {name: {"mode": getattr(config, name), "neighbours": float((table >= 0).sum(axis=1).mean()),
                     "none": int((table[:, 0] < 0).sum())} | facts.get(name, {})
              for name, table in found.items()}  # fmt: skip
    write_json(folder / "relations.json", {"items": len(catalogue), **facts})
    counted = "collaborative" in tables and config.collaborative != "random"
    nothing = Histories(sequences.items, sequences.offsets[:-1], sequences.offsets[:-1])
    seen = leading_items(sequences, sequences.train) if counted else nothing
    write_items_seen(folder, sequences, seen, catalogue["item_id"])


def _collaborative(
    context: StageContext, sequences: Sequences, items: int, similar: np.ndarray | None, facts: dict[str, Any]
) -> np.ndarray:
    config = context.config.relations
    if config.collaborative == "random":
        return random_neighbours(items, config.kept, context.config.seed)
    own = collaborative_neighbours(sequences.train, items, config.window, config.kept)
    facts["collaborative"] = {"own": float((own >= 0).sum(axis=1).mean()), "short": int((own[:, -1] < 0).sum())}
    found = fill_from_similar(own, similar) if config.fill and similar is not None else own
    return other_items_rows(found, context.config.seed) if config.collaborative == "shuffled" else found


def _semantic(
    context: StageContext, sequences: Sequences, items: int, similar: np.ndarray | None, facts: dict[str, Any]
) -> np.ndarray:
    config, seed = context.config.relations, context.config.seed
    if similar is None or config.semantic == "random":
        return random_neighbours(items, config.kept, seed + 1)  # not the draw of the other table
    return other_items_rows(similar, seed + 1) if config.semantic == "shuffled" else similar


_TABLES = {"collaborative": _collaborative, "semantic": _semantic}


def _similar(context: StageContext, items: int, facts: dict[str, Any]) -> np.ndarray:
    """(items, kept) the nearest by the cosine of their text."""
    config = context.config.relations
    vectors = _vectors(context)
    exact = config.search == "exact" or (config.search == "auto" and items <= EXACT_ITEMS)
    if exact:
        facts["search"] = {"how": "exact"}
        return semantic_neighbours(vectors, config.kept)
    found = nearest_in_cells(vectors, config.kept, config.probes)
    facts["search"] = {"how": "cells", "probes": config.probes, "recall": round(search_recall(vectors, found), 4)}
    return found


def _vectors(context: StageContext) -> Tensor:
    """Vectors that tell items apart.

    Raises:
        UserError: they do not.
    """
    vectors = load_embeddings(context)
    if not bool(torch.isfinite(vectors).all()):
        row = int(torch.nonzero(~torch.isfinite(vectors).all(dim=1))[0])
        item = load_catalogue(context)["item_id"][row]
        raise UserError(f"relations: the vector of item {item} holds what is no number; see embedding.text_encoder")
    if len(vectors) > 1 and bool((vectors == vectors[0]).all()):
        raise UserError(f"relations: all {len(vectors):,} items have the same text vector, so none is more like "
                        f"another; give them text (embedding.fields, embedding.interests), or do without: "
                        f"{_without(context.config)}")  # fmt: skip
    return vectors


def _without(config: Config) -> str:
    """The keys that need no vectors."""
    keys = []
    if "semantic" in config.relation_tasks and config.relations.semantic != "random":
        keys.append("sft.tasks.semantic.share=0")
    if config.relations.compares_texts(config.relation_tasks - {"semantic"}):
        keys.append("relations.fill=false")
    return " ".join(keys)


def _says(path: Path) -> str:
    facts = read_json(path / "relations.json")
    parts = []
    for name in ("collaborative", "semantic"):
        if name in facts:
            mode = facts[name]["mode"]
            parts.append(f"{name} ({mode}): {facts[name]['neighbours']:.1f} neighbours an item"
                         + (f", {facts[name]['own']:.1f} of its own" if "own" in facts[name] else ""))  # fmt: skip
    search = facts.get("search", {})
    if "recall" in search:
        parts.append(f"texts compared in cells, which finds {search['recall']:.1%} of the five nearest")
    return "; ".join(parts)


STAGE = Stage("relations", ("prepare",), _reads, _build, _says,
              also=lambda config: ("embed",) if config.relations.compares_texts(config.relation_tasks) else (),
              enabled=lambda config: bool(config.relation_tasks))  # fmt: skip
