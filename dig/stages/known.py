"""What SFT's tasks read of items besides their Semantic IDs: texts, positive interests, neighbours."""

from __future__ import annotations

import polars as pl

from datamodules.tasks import ItemTexts
from dig.config.schema import RELATION_TASKS
from dig.engine.stage import StageContext
from dig.stages.label import load_interests
from dig.stages.prepare import load_catalogue
from dig.stages.relations import load_relations

__all__ = ["interests_of_items", "known_of_items"]

_INTERESTS = 5  # positive interests that are told of an item


def known_of_items(context: StageContext, kinds: set[str]) -> ItemTexts:
    """What of the items is asked for: ``title``, ``description``, ``interests``, ``collaborative``, ``semantic``."""
    catalogue = load_catalogue(context)
    known = ItemTexts()
    for kind in ("title", "description"):
        if kind in kinds:
            texts = catalogue[kind].to_list() if kind in catalogue.columns else [None] * len(catalogue)
            setattr(known, kind, texts)
    if "interests" in kinds:
        known.interests = interests_of_items(context, catalogue["item_id"].to_list())
    for kind in kinds & set(RELATION_TASKS):
        setattr(known, kind, load_relations(context)[kind])
    return known


def interests_of_items(context: StageContext, item_ids: list[str]) -> list[str | None]:
    """Each item's positive interests, joined, as the miners ordered them; None for an item without."""
    labelled = load_interests(context)
    positive = labelled.filter(pl.col("label") == 1).group_by("item_id", maintain_order=True)
    joined = dict(positive.agg(pl.col("text").head(_INTERESTS).str.join(", ")).iter_rows())
    return [joined.get(item_id) for item_id in item_ids]
