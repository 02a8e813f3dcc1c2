"""prepare: a source's tables to one catalogue and chronological sequences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from datamodules.fetching import folder_fingerprint
from datamodules.preparation import prepare
from datamodules.sources import read_source, source_files
from datamodules.sources.quickstart import write_shop
from datamodules.sources.streams import is_utf8
from datamodules.splits import Sequences
from dig.config import Config
from dig.engine.artifacts import hash_file, read_json, write_json
from dig.engine.catalogue import Catalogue
from dig.engine.stage import Stage, StageContext, select

__all__ = [
    "STAGE",
    "load_catalogue",
    "load_sequences",
    "load_stamp",
    "load_slices",
    "picture_fingerprint",
    "picture_folder",
]

# What of ``data`` decides the result; where the files lie and how they were fetched does not.
_KEYS = (
    "source",
    "columns",
    "min_rating",
    "duplicates",
    "k_core",
    "min_interactions",
    "split",
    "split_fractions",
    "max_bad_fraction",
    "catalogue",
    "unknown_items",
)
_IF_SET = ("text_columns", "category_separator", "split_times")


def load_catalogue(context: StageContext) -> pl.DataFrame:
    """The catalogue, one row per item."""
    return pl.read_parquet(context.file("prepare", "items.parquet"), glob=False)


def load_stamp(context: StageContext) -> dict[str, str]:
    """What marks that something counts by the catalogue, as metadata of a file."""
    return Catalogue.of(load_catalogue(context)["item_id"]).stamp


def load_sequences(context: StageContext) -> Sequences:
    """All users' sequences, mapped into memory."""
    return Sequences.load(context.file("prepare", "sequences"))


def load_slices(context: StageContext) -> pl.DataFrame:
    """The slices of every held-out example."""
    return pl.read_parquet(context.file("prepare", "slices.parquet"), glob=False)


def picture_folder(context: StageContext) -> Path:
    """The folder that pictures are named in: the shop's own, or the configured one."""
    if context.config.data.source == "quickstart":
        return context.file("prepare", "shop")
    return _folder(context.config)


def picture_fingerprint(config: Config) -> str:
    """Identifies the pictures; those of the shop follow from its configuration."""
    return "shop" if config.data.source == "quickstart" else folder_fingerprint(_folder(config))


def _folder(config: Config) -> Path:
    return Path(config.visual.folder or config.data.path or "").expanduser()


def _config_keys(config: Config) -> dict[str, Any]:
    read = select(config, *(f"data.{key}" for key in (*_KEYS, *_set(config))))
    if config.data.source == "quickstart":
        return read | select(config, "data.shop")
    if not is_utf8(config.data.encoding):
        read |= select(config, "data.encoding")
    return read | {name: hash_file(path) for name, path in source_files(config.data).items()}


def _set(config: Config) -> list[str]:
    """Further keys that decide the result, where they are set."""
    return [key for key in _IF_SET if getattr(config.data, key) not in (None, [])]


def _build(context: StageContext, folder: Path) -> None:
    config = context.config.data
    if config.source == "quickstart":
        shop = folder / "shop"
        write_shop(shop, config.shop.items, config.shop.users, config.shop.seed)
        tables = read_source(replace(config, source="tables", path=str(shop)))
    else:
        tables = read_source(config)
    prepared = prepare(tables, config)
    stamp = Catalogue.of(prepared.catalogue["item_id"]).stamp
    prepared.catalogue.write_parquet(folder / "items.parquet", metadata=stamp)
    prepared.sequences.save(folder / "sequences")
    prepared.slices.write_parquet(folder / "slices.parquet")
    write_json(folder / "statistics.json", prepared.statistics)


def _summary(path: Path) -> str:
    facts = read_json(path / "statistics.json")
    line = (
        f"{facts['users']:,} users, {facts['items']:,} items, {facts['interactions']:,} interactions "
        f"({facts['mean_length']:.1f} per user); {facts['split']}, {facts['examples']['test']:,} tests"
    )
    if facts["split"] != "leave-one-out":
        return line
    return f"{line}; the last two items share a time for {facts['tied_last_pairs'] / facts['users']:.0%} of users"


STAGE = Stage("prepare", (), _config_keys, _build, _summary, version=3)
