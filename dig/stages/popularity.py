"""popularity: how often items occur in the training part."""

from __future__ import annotations

from pathlib import Path

from datamodules.leakage import write_items_seen
from datamodules.splits import leading_items
from dig import baselines
from dig.engine.catalogue import Catalogue
from dig.engine.stage import Stage, StageContext
from dig.stages.prepare import load_catalogue, load_sequences

__all__ = ["STAGE"]


def _build(context: StageContext, folder: Path) -> None:
    sequences, item_ids = load_sequences(context), load_catalogue(context)["item_id"]
    baselines.Popularity.fit(sequences.train, len(item_ids)).save(folder / "model", Catalogue.of(item_ids).stamp)
    write_items_seen(folder, sequences, leading_items(sequences, sequences.train), item_ids)


STAGE = Stage(
    "popularity",
    ("prepare",),
    lambda config: {},
    _build,
    lambda path: "counts of the training part",
    enabled=lambda config: "popularity" in config.baselines,
)
