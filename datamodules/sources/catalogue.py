"""Item records of any source to rows of the catalogue."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from datamodules.sources.base import CATALOGUE_SCHEMA

__all__ = ["Row", "catalogue_frame", "category_names", "item_row", "plain_text", "price_of"]

Row = tuple[str, str | None, str | None, list[str] | None, str | None, float | None, str | None]
"""A row of ``CATALOGUE_SCHEMA``: item_id, title, brand, categories, description, price, image."""

_SCRIPT = re.compile(r"<(script|style)\b.*?(</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?(-->|$)", re.DOTALL)
_SCRAPED = re.compile(r"var aPageStart|function\s*\(|getTime\(\)|\.a-box-inner|\{\s*background")
_UNIT = "\x1f"
_SURROGATE = re.compile("[\ud800-\udfff]")
_PRICE = re.compile(r"\s*(?:from\s+)?(?:US)?[$€£]?\s*(\d[\d,]*(?:\.\d+)?|\.\d+)")


def item_row(
    item_id: Any, title: Any = None, brand: Any = None, categories: Any = None, description: Any = None,
    price: Any = None, image: Any = None
) -> Row:  # fmt: skip
    """A catalogue row of loosely typed values.

    Raises:
        ValueError: without an id.
    """
    if item_id is None or str(item_id) == "":
        raise ValueError("no item id")
    return (str(item_id), _text(title), _text(brand), category_names(categories), _text(description), price_of(price),
            _text(image))  # fmt: skip


def catalogue_frame(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows as a table of ``CATALOGUE_SCHEMA``."""
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) if rows else [()] * len(CATALOGUE_SCHEMA)
    content = dict(zip(CATALOGUE_SCHEMA, columns, strict=True))
    # Lists are handed over as joined text, which is many times faster than a Python list a row.
    joined = [None if names is None else _UNIT.join(names) for names in content.pop("categories")]
    plain = {name: pl.Series(name, values, CATALOGUE_SCHEMA[name], strict=False) for name, values in content.items()}
    frame = pl.DataFrame({**plain, "categories": pl.Series(joined, dtype=pl.String)})
    return frame.with_columns(pl.col("categories").str.split(_UNIT)).select(list(CATALOGUE_SCHEMA))


def _text(value: Any) -> str | None:
    """A text, or texts joined by spaces; None where there is nothing. Bytes that were not UTF-8 become U+FFFD."""
    if isinstance(value, list):
        value = " ".join(str(part) for part in value if part)
    if value is None:
        return None
    text = str(value).strip()
    return (text if text.isascii() else _SURROGATE.sub("\ufffd", text)) or None


def category_names(value: Any) -> list[str] | None:
    """Category names of a list, or of a list of paths, each once and in order."""
    if value is None:
        return None
    parts = value if isinstance(value, list) else [value]
    names = [name for part in parts for name in (part if isinstance(part, list) else [part])]
    texts = (text.replace(_UNIT, " ") for name in names if name and (text := _text(name)))
    return list(dict.fromkeys(texts)) or None


def price_of(value: Any) -> float | None:
    """A price in any of the publishers' spellings: ``7.99``, ``$1,250.00``, the first of ``$5.99 - $9.99``.

    A price in words, or a scraped piece of a page, says nothing that dig uses.
    """
    if isinstance(value, bool) or value is None:
        return None
    found = _PRICE.match(str(value)) if len(str(value)) <= 40 else None
    return float(found[1].replace(",", "")) if found else None


def plain_text(value: Any) -> str | None:
    """Scraped text without markup: entities resolved (some are escaped twice), scripts and tags gone, one line.

    Returns:
        None where nothing is left, or where it is the code of a page and not a text.
    """
    if isinstance(value, list):
        return " ".join(text for part in value if part and (text := plain_text(part))) or None
    if value is None:
        return None
    text = str(value)
    if "&" in text:
        text = html.unescape(html.unescape(text))
    if "<" in text:
        text = _TAG.sub(" ", _SCRIPT.sub(" ", text))
    text = " ".join(text.split())
    return None if not text or _SCRAPED.search(text) else text
