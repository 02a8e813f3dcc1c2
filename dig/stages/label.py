"""label: a quality label for every interest (RLDI), and the quality q of every item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from datamodules.leakage import write_items_seen
from dig.artifacts import read_json, write_json
from dig.interests import item_quality, label_interests
from dig.stages.base import Stage, StageContext, select
from dig.stages.mine import load_captions
from dig.stages.prepare import load_catalogue, load_sequences

__all__ = ["STAGE", "load_interests", "load_quality"]


def load_interests(context: StageContext) -> pl.DataFrame:
    """Interests with their labels."""
    return pl.read_parquet(context.file("label", "interests.parquet"))


def load_quality(context: StageContext) -> np.ndarray:
    """(items,) float32 q."""
    return pl.read_parquet(context.file("label", "quality.parquet"))["quality"].to_numpy()


def _build(context: StageContext, folder: Path) -> None:
    catalogue = load_catalogue(context)
    mined = pl.read_parquet(context.file("mine", "interests.parquet"))
    sequences = load_sequences(context)
    labelled, report = label_interests(
        mined, catalogue, load_captions(context), sequences.train, context.config.labels, context.config.seed
    )
    write_items_seen(folder, sequences, sequences.train, catalogue["item_id"])
    labelled.write_parquet(folder / "interests.parquet")
    quality = item_quality(labelled, catalogue["item_id"].to_list())
    pl.DataFrame({"item_id": catalogue["item_id"], "quality": quality}).write_parquet(folder / "quality.parquet")
    write_json(folder / "report.json", report)


def _says(path: Path) -> str:
    report = read_json(path / "report.json")
    interests = pl.read_parquet(path / "interests.parquet")
    positive = (interests["label"] == 1).mean() if len(interests) else 0.0
    quality = pl.read_parquet(path / "quality.parquet")["quality"].mean()
    return f"{positive:.0%} of the interests are positive, mean q {quality:.2f}; {_held_out(report)}"


def _held_out(report: dict) -> str:
    found = report.get("held_out")
    if not found:
        return f"classifier {report.get('classifier', 'off')}"
    return (f"held-out ROC-AUC {found['roc_auc']:.3f}, precision {found['precision']:.3f} at base rate "
            f"{found['base_rate']:.3f}")  # fmt: skip


STAGE = Stage("label", ("prepare", "mine"), lambda config: select(config, "labels", "seed"), _build, _says,
              version=2)  # fmt: skip
