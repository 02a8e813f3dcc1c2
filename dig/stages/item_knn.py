"""item_knn: neighbours of every item by who bought both."""

from __future__ import annotations

from pathlib import Path

from datamodules.leakage import write_items_seen
from datamodules.splits import leading_items
from dig import baselines
from dig.engine.catalogue import Catalogue
from dig.engine.stage import Stage, StageContext, select
from dig.stages.prepare import load_catalogue, load_sequences

__all__ = ["STAGE"]


def _build(context: StageContext, folder: Path) -> None:
    sequences, item_ids = load_sequences(context), load_catalogue(context)["item_id"]
    baselines.ItemKNN.fit(sequences.train, len(item_ids), context.config.item_knn).save(
        folder / "model", Catalogue.of(item_ids).stamp
    )
    write_items_seen(folder, sequences, leading_items(sequences, sequences.train), item_ids)


def _says(path: Path) -> str:
    similarity = baselines.ItemKNN.load(path / "model").similarity
    return f"{similarity.nnz / max(similarity.shape[0], 1):.0f} neighbours an item"


STAGE = Stage(
    "item_knn",
    ("prepare",),
    lambda config: select(config, "item_knn"),
    _build,
    _says,
    enabled=lambda config: "item_knn" in config.baselines,
)
