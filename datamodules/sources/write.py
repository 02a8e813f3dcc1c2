"""Writes the interchange format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl

from datamodules.sources.base import Tables
from dig.engine.artifacts import atomic_path

__all__ = ["write_tables"]

_PARTS = ("train", "valid", "test")


def write_tables(tables: Tables, folder: Path) -> None:
    """Writes ``interactions.csv.gz`` and ``items.jsonl.gz``, atomically; equal tables give equal bytes.

    Whole seconds are written without a fraction, times that seconds do not tell apart as the whole numbers that do,
    fields that an item lacks are left out, and a publisher's split is the column ``part`` (train, valid, test), which
    ``data.split=published`` reads back.
    """
    names = [
        name for name in ("user_id", "item_id", "timestamp", "rating", "part") if name in tables.interactions.columns
    ]
    interactions = tables.interactions
    if "ticks" in interactions.columns:
        interactions = interactions.with_columns(pl.col("ticks").alias("timestamp"))
    interactions = interactions.select(names)
    whole = [name for name in ("timestamp", "rating") if name in names and (interactions[name] % 1 == 0).all()]
    if "part" in names:
        interactions = interactions.with_columns(pl.col("part").replace_strict(dict(enumerate(_PARTS))))
    content = interactions.with_columns(pl.col(whole).cast(pl.Int64)).write_csv().encode()
    lines = (
        json.dumps({key: value for key, value in row.items() if value is not None}, ensure_ascii=False)
        for row in tables.catalogue.iter_rows(named=True)
    )
    _write(folder / "items.jsonl.gz", "".join(f"{line}\n" for line in lines).encode())
    _write(folder / "interactions.csv.gz", content)


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(content, compresslevel=6, mtime=0))
