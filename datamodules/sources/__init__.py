"""Where interactions and items come from: every source ends as the same two tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from datamodules.sources import amazon, movielens, tables
from datamodules.sources.amazon import ratings_files, release_of
from datamodules.sources.base import CATALOGUE_SCHEMA, INTERACTION_SCHEMA, Tables, data_folder, id_difference
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.engine.console import say, warn

__all__ = ["detect_source", "known_items", "rated", "read_files", "read_source", "source_files"]


class _Source(NamedTuple):
    """How a source is read.

    Attributes:
        files: the files that a configuration means, by what they hold.
        read: those files as the two tables.
    """

    files: Callable[[DataConfig], dict[str, Path]]
    read: Callable[[dict[str, Path], DataConfig], Tables]


_SOURCES = {
    "tables": _Source(tables.files, tables.read),
    "amazon2014": _Source(amazon.files_2014, amazon.read_2014),
    "amazon2018": _Source(amazon.files_2018, amazon.read_2018),
    "amazon2023": _Source(amazon.files_2023, amazon.read_2023),
    "movielens": _Source(movielens.files, movielens.read),
}
# What tells a source by the names of its files, the surest first.
_SIGNS = {
    "tables": ("interactions.*",),
    "movielens": ("ratings.dat*", "ratings.csv*", "u.data*"),
    "amazon2014": ("reviews_*.json*", "ratings_*.csv*"),
    "amazon2023": ("meta_*.jsonl*",),
    "amazon2018": ("meta_*.json", "meta_*.json.gz", "meta_*.json.zst"),
}


def source_files(config: DataConfig) -> dict[str, Path]:
    """The files that ``data.source`` would read, by what they hold.

    Raises:
        UserError: if the folder or a file is missing.
    """
    if config.source != "tables":
        _refuse_keys_of_tables(config)
    return _SOURCES[config.source].files(config)


def read_source(config: DataConfig) -> Tables:
    """Reads a source; says what could not be read, and applies ``min_rating`` and ``unknown_items``.

    Raises:
        UserError: for a missing or damaged file, too many bad rows, or items that the catalogue lacks.
    """
    read = read_files(config)
    return known_items(rated(read, config), config)


def read_files(config: DataConfig) -> Tables:
    """Reads a source's files as they are; says what could not be read.

    Raises:
        UserError: for a missing or damaged file, or too many bad rows.
    """
    read = _SOURCES[config.source].read(source_files(config), config)
    for problems in read.problems:
        problems.settle(config.max_bad_fraction)
    names = [
        column for column in (*INTERACTION_SCHEMA, "rating", "ticks", "part") if column in read.interactions.columns
    ]
    return Tables(read.interactions.select(names), _once(read.catalogue), read.problems)


def _refuse_keys_of_tables(config: DataConfig) -> None:
    for key, value in (
        ("columns", config.columns),
        ("text_columns", config.text_columns),
        ("category_separator", config.category_separator),
        ("files.items", config.files.items),
        ("files.interactions", config.files.interactions),
    ):
        if value not in (None, [], {}):
            raise UserError(
                f"data.{key} is for data.source=tables; data.source={config.source} reads its own files", exit_code=2
            )


def detect_source(folder: Path) -> str:
    """The source that a folder's file names speak of.

    Raises:
        UserError: if they speak of none.
    """
    data_folder(DataConfig(path=str(folder)))
    for source, patterns in _SIGNS.items():
        if any(path.is_file() for pattern in patterns for path in folder.glob(pattern)):
            return source
    if ratings := ratings_files(folder, None, "{}.csv"):
        return release_of(ratings[0])
    raise UserError(
        f"{folder}: no known data; looked for interactions.csv, ratings.dat, u.data, reviews_*.json, ratings_*.csv, "
        "meta_*.jsonl and meta_*.json; name it with data.source=…, or write an experiment for two tables of your own "
        "with python -m dig.data init",
        exit_code=2,
    )


def rated(tables: Tables, config: DataConfig) -> Tables:
    """Applies ``data.min_rating``.

    Raises:
        UserError: if there are no ratings, or none is high enough.
    """
    interactions = tables.interactions
    if config.min_rating is None:
        return tables
    if "rating" not in interactions.columns:
        raise UserError(f"data.min_rating={config.min_rating:g}, but the interactions at {config.path} have no rating")
    rated_enough = interactions.filter((pl.col("rating") >= config.min_rating).fill_null(value=False))
    if len(rated_enough) < len(interactions):
        say(
            f"{len(interactions) - len(rated_enough):,} of {len(interactions):,} interactions are rated below "
            f"{config.min_rating:g} or not at all and are left out (data.min_rating)"
        )
    if rated_enough.is_empty():
        raise UserError(f"data.min_rating={config.min_rating:g} leaves no interaction")
    return replace(tables, interactions=rated_enough)


def _once(catalogue: pl.DataFrame) -> pl.DataFrame:
    once = catalogue.unique("item_id", keep="first", maintain_order=True)
    if len(once) < len(catalogue):
        warn(f"{len(catalogue) - len(once):,} items stand in the catalogue again; the first of each is kept")
    return once


def known_items(tables: Tables, config: DataConfig) -> Tables:
    """Applies ``data.unknown_items``.

    Raises:
        UserError: if the catalogue lacks items and they are refused.
    """
    interactions, catalogue = tables.interactions, tables.catalogue
    in_catalogue = interactions["item_id"].is_in(catalogue["item_id"].implode())
    if in_catalogue.all():
        return tables
    unknown = interactions.filter(~in_catalogue)["item_id"]
    items = unknown.unique(maintain_order=True)
    problem = f"{len(unknown):,} interactions with {len(items):,} items that the catalogue lacks"
    if difference := id_difference(items, catalogue["item_id"]):
        problem = f"{problem} ({difference})"
    if config.unknown_items == "refuse":
        raise UserError(
            f"{config.path}: {problem}, for example {items[0]!r}; add them to the catalogue, or set "
            "data.unknown_items=drop or =keep"
        )
    if config.unknown_items == "drop":
        warn(f"{problem}; they are left out (data.unknown_items=drop)")
        return replace(tables, interactions=interactions.filter(in_catalogue))
    warn(f"{problem}; they are kept without any text (data.unknown_items=keep)")
    bare = pl.DataFrame({"item_id": items}).with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in CATALOGUE_SCHEMA.items() if name != "item_id"
    )
    return replace(tables, catalogue=pl.concat([catalogue, bare]))
