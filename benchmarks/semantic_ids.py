"""Health of Beauty's Semantic IDs: ours beside those that LETTER and UniGenRec published.

Ours are made by the pipeline (from its cache where they are there). Needs ``DIG_DATA_ROOT`` with ``beauty``.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from datamodules.preparation import prepare
from datamodules.sources import read_source
from datamodules.splits import Sequences
from dig import load_config, run_experiment
from dig.engine.console import console
from dig.evaluation.codebook import collision_rate, largest_collision, neighbour_recall, prefix_purity, usage
from dig.interests.supervision import count_copurchases
from dig.quantization import SemanticIds

CONTRAST = ["rqvae.info_nce_weight=0.5", "rqvae.commitment_weight=1"]
OURS = {
    "RQ-VAE, the defaults": [],
    "RQ-VAE with the contrast": CONTRAST,
    "RQ-VAE with the contrast, 4 levels": [*CONTRAST, "rqvae.levels=4"],
    "residual k-means": ["rqvae.tokenizer=kmeans"],
    "balanced residual k-means": ["rqvae.tokenizer=balanced-kmeans"],
    "residual k-means, 4 levels": ["rqvae.tokenizer=kmeans", "rqvae.levels=4"],
}
CODES = 256


def main() -> None:
    """Prints the table and, as the last line, JSON."""
    if "DIG_DATA_ROOT" not in os.environ:
        print("not measured: DIG_DATA_ROOT is not set; it is the folder with beauty/published_semantic_ids.json.gz")
        print("{}")
        return
    config = load_config("beauty").data
    console.quiet = True
    prepared = prepare(read_source(config), config)
    ids = prepared.catalogue["item_id"].to_list()
    categories = [path[-1] if path else None for path in prepared.catalogue["categories"].to_list()]
    tables = {name: _ours(settings, ids) for name, settings in OURS.items()}
    after = {
        name: collision_rate(_ours([*settings, "rqvae.collisions=reassign"], ids)) for name, settings in OURS.items()
    }
    tables |= _published(Path(config.path or "") / "published_semantic_ids.json.gz", ids)
    seen, unseen = _pairs(prepared.sequences, len(ids))
    healths = {name: _health(codes, categories, seen, unseen) for name, codes in tables.items()}
    for name, share in after.items():
        healths[name]["reassigned"] = round(share, 4)
    table = Table(title="Beauty, 12,101 items, 256 codes a level; lifts of one, two, three leading codes over chance")
    for heading in (
        "Semantic IDs",
        "levels",
        "least usage",
        "collisions",
        "reassigned",
        "largest",
        "purity",
        "seen pairs",
        "unseen pairs",
    ):
        table.add_column(heading)
    for name, health in healths.items():
        lifts = (" / ".join(f"{lift:.1f}" for lift in health[kind]) for kind in ("seen", "unseen"))
        purity = " / ".join(f"{share:.2f}" for share in health["purity"])
        reassigned = f"{health['reassigned']:.2%}" if "reassigned" in health else ""
        table.add_row(
            name,
            str(health["levels"]),
            f"{health['usage']:.1%}",
            f"{health['collisions']:.2%}",
            reassigned,
            str(health["largest"]),
            purity,
            *lifts,
        )
    Console(width=160).print(table)
    print(json.dumps(healths))


def _ours(settings: list[str], ids: list[str]) -> Tensor:
    """Content codes ``(items, levels)`` by the pipeline, before collisions are treated unless the settings say so."""
    fixed = ["stages=[tokenize]", "runs_dir=runs/semantic_ids", "rqvae.collisions=suffix"]
    run = run_experiment(load_config("beauty", [*fixed, *settings]))
    table = SemanticIds.load(run.artifacts["tokenize"] / "semantic_ids.parquet")
    assert table.item_ids == ids
    return table.codes[:, : table.levels]


def _published(path: Path, ids: list[str]) -> dict[str, Tensor]:
    """The first four codes of what others published, as they count; UniGenRec's fifth is a suffix."""
    with gzip.open(path) as stream:
        tables = json.load(stream)
    return {f"published: {name}": torch.tensor([table[item][:4] for item in ids]) for name, table in tables.items()}


def _pairs(sequences: Sequences, items: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Co-purchases within five positions of the training part, and each user's last training and validation item."""
    bought = count_copurchases(sequences.train, items)
    held = sequences.held_out("valid")
    last = np.array([history[-1] for history in held.histories])
    other = last != held.targets
    return (bought.left, bought.right, bought.users), (last[other], held.targets[other])


def _health(
    codes: Tensor, categories: list[str | None], seen: tuple[np.ndarray, ...], unseen: tuple[np.ndarray, ...]
) -> dict[str, Any]:
    levels = codes.shape[1]
    return {
        "levels": levels,
        "usage": round(float(usage(codes, [CODES] * levels).min()), 4),
        "collisions": round(collision_rate(codes), 4),
        "largest": largest_collision(codes),
        "purity": prefix_purity(codes[:, :3], categories).round(3).tolist(),
        "seen": neighbour_recall(codes[:, :3], *seen).lift.round(1).tolist(),
        "unseen": neighbour_recall(codes[:, :3], *unseen).lift.round(1).tolist(),
    }


if __name__ == "__main__":
    main()
