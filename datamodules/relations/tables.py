"""Both tables of relations as they are configured, and what there is to say of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.histories import Histories
from datamodules.relations.control import other_items_rows, random_neighbours
from datamodules.relations.cooccurrence import collaborative_neighbours
from datamodules.relations.filling import fill_from_similar
from datamodules.relations.similarity import EXACT_ITEMS, nearest_in_cells, search_recall, semantic_neighbours
from dig.config.schema import RelationsConfig

__all__ = ["relation_tables"]


def relation_tables(
    config: RelationsConfig,
    wanted: set[str],
    train: Histories,
    items: int,
    vectors: Callable[[], Tensor],
    seed: int,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Neighbours of every item.

    Args:
        config: how they are found.
        wanted: ``collaborative``, ``semantic`` or both.
        train: histories of the training part.
        items: size of the catalogue.
        vectors: gives (items, dim) of the items' texts; asked only where they are compared.
        seed: of what is drawn.

    Returns:
        (items, kept) int32 catalogue rows by table, best first, -1 where there is none; and facts by table, how vectors
        were searched under ``search``.
    """
    facts: dict[str, Any] = {}
    similar = _similar(config, vectors(), facts) if config.compares_texts(wanted) else None
    found = {}
    if "collaborative" in wanted:
        found["collaborative"] = _collaborative(config, train, items, similar, seed, facts)
    if "semantic" in wanted:
        found["semantic"] = _semantic(config, items, similar, seed + 1)  # not the draw of the other table
    for name, table in found.items():
        facts[name] = {
            "mode": getattr(config, name),
            "neighbours": float((table >= 0).sum(axis=1).mean()),
            "none": int((table[:, 0] < 0).sum()),
        } | facts.get(name, {})
    return {name: np.ascontiguousarray(table.astype(np.int32)) for name, table in found.items()}, facts


def _collaborative(
    config: RelationsConfig, train: Histories, items: int, similar: np.ndarray | None, seed: int, facts: dict[str, Any]
) -> np.ndarray:
    if config.collaborative == "random":
        return random_neighbours(items, config.kept, seed)
    own = collaborative_neighbours(train, items, config.window, config.kept)
    facts["collaborative"] = {"own": float((own >= 0).sum(axis=1).mean()), "short": int((own[:, -1] < 0).sum())}
    found = fill_from_similar(own, similar) if config.fill and similar is not None else own
    return other_items_rows(found, seed) if config.collaborative == "shuffled" else found


def _semantic(config: RelationsConfig, items: int, similar: np.ndarray | None, seed: int) -> np.ndarray:
    if config.semantic == "random" or similar is None:
        return random_neighbours(items, config.kept, seed)
    return other_items_rows(similar, seed) if config.semantic == "shuffled" else similar


def _similar(config: RelationsConfig, vectors: Tensor, facts: dict[str, Any]) -> np.ndarray:
    """(items, kept) the nearest by the cosine of their vectors."""
    if config.search == "exact" or (config.search == "auto" and len(vectors) <= EXACT_ITEMS):
        facts["search"] = {"how": "exact"}
        return semantic_neighbours(vectors, config.kept)
    found = nearest_in_cells(vectors, config.kept, config.probes)
    facts["search"] = {"how": "cells", "probes": config.probes, "recall": round(search_recall(vectors, found), 4)}
    return found
