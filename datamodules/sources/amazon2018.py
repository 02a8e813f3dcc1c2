"""Amazon reviews of 2018 (Ni et al., v2): JSON lines with scraped text, entities, and prices as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.sources.amazon import read_both, reviews_and_metadata
from datamodules.sources.base import Tables
from datamodules.sources.catalogue import Row, item_row, plain_text
from datamodules.sources.cells import flat, quoted_list
from datamodules.sources.metadata import parse_json
from dig.config.schema import DataConfig

__all__ = ["files", "read"]


def files(config: DataConfig) -> dict[str, Path]:
    """``<category>_5.json`` (or all reviews, without ``_5``) and ``meta_<category>.json``.

    Where there are no reviews, ``<category>.csv``, also without metadata.

    Raises:
        UserError: if one is missing.
    """
    return reviews_and_metadata(config, core="{}_5.json", full="{}.json", ratings="{}.csv")


def read(found: dict[str, Path], config: DataConfig) -> Tables:
    """Reads reviews and metadata."""
    return read_both(found, parse_json, _item, config.encoding)


def _item(record: dict[str, Any]) -> Row:
    pictures = list(flat(record.get("imageURLHighRes") or record.get("imageURL")))
    return item_row(
        record.get("asin"),
        title=plain_text(record.get("title")),
        brand=plain_text(record.get("brand")),
        categories=[text for name in flat(quoted_list(record.get("category"))) if (text := plain_text(name))],
        description=plain_text(record.get("description")),
        price=record.get("price"),
        image=next(iter(pictures), None),
    )
