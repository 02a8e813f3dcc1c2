"""Amazon reviews of 2014 (McAuley et al.): JSON lines of reviews, and metadata as one Python dict a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.sources.amazon import read_both, reviews_and_metadata
from datamodules.sources.base import Tables
from datamodules.sources.catalogue import Row, item_row, plain_text
from datamodules.sources.metadata import parse_literal
from dig.config.schema import DataConfig

__all__ = ["files", "read"]


def files(config: DataConfig) -> dict[str, Path]:
    """``reviews_<category>_5.json`` (or all reviews, without ``_5``) and ``meta_<category>.json``.

    Where there are no reviews, ``ratings_<category>.csv``, also without metadata.

    Raises:
        UserError: if one is missing.
    """
    return reviews_and_metadata(config, core="reviews_{}_5.json", full="reviews_{}.json", ratings="ratings_{}.csv")


def read(found: dict[str, Path], config: DataConfig) -> Tables:
    """Reads reviews and metadata."""
    return read_both(found, parse_literal, _item, config.encoding)


def _item(record: dict[str, Any]) -> Row:
    return item_row(
        record.get("asin"),
        title=plain_text(record.get("title")),
        brand=plain_text(record.get("brand")),
        categories=record.get("categories"),
        description=plain_text(record.get("description")),
        price=record.get("price"),
        image=record.get("imUrl"),
    )
