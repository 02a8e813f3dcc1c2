"""prepare: a source's tables to one catalogue and chronological sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from datamodules.sources.quickstart import write_shop
from datamodules.sources.tables import input_files, read_tables
from datamodules.splits import Sequences, build_sequences
from dig.artifacts import hash_file, read_json, write_json
from dig.config import Config
from dig.config.schema import DataConfig
from dig.stages.base import Stage, StageContext, select

__all__ = ["STAGE", "load_catalogue", "load_sequences"]


def load_catalogue(context: StageContext) -> pl.DataFrame:
    """The catalogue, one row an item."""
    return pl.read_parquet(context.file("prepare", "items.parquet"))


def load_sequences(context: StageContext) -> Sequences:
    """All users' sequences."""
    return Sequences.load(context.file("prepare", "sequences.parquet"))


def _reads(config: Config) -> dict[str, Any]:
    if config.data.source == "quickstart":
        return select(config, "data.source", "data.min_interactions", "data.shop")
    files = {name: hash_file(path) for name, path in input_files(config.data).items()}
    return select(config, "data.source", "data.min_interactions", "data.max_bad_fraction", "data.unknown_items") | files


def _build(context: StageContext, folder: Path) -> None:
    config = context.config.data
    if config.source == "quickstart":
        shop = folder / "shop"
        write_shop(shop, config.shop.items, config.shop.users, config.shop.seed)
        config = DataConfig(path=str(shop), min_interactions=config.min_interactions)
    tables = read_tables(input_files(config), config)
    sequences, counts = build_sequences(tables.interactions, tables.catalogue["item_id"], config.min_interactions)
    tables.catalogue.write_parquet(folder / "items.parquet")
    sequences.save(folder / "sequences.parquet")
    interactions = sum(len(rows) for rows in sequences.rows)
    statistics = {
        "users": len(sequences),
        "items": len(tables.catalogue),
        "interactions": interactions,
        "mean_length": round(interactions / len(sequences), 3),
        "density": interactions / (len(sequences) * len(tables.catalogue)),
        "bad_rows": tables.bad_rows,
        **counts,
    }
    write_json(folder / "statistics.json", statistics)


def _says(path: Path) -> str:
    found = read_json(path / "statistics.json")
    ties = found["tied_last_pairs"] / found["users"]
    return (f"{found['users']:,} users, {found['items']:,} items, {found['interactions']:,} interactions "
            f"({found['mean_length']:.1f} a user; the last two share a time for {ties:.0%} of users; split "
            "leave-one-out)")  # fmt: skip


STAGE = Stage("prepare", (), _reads, _build, _says)
