"""Item records of any source to rows of the catalogue."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import polars as pl

from datamodules.sources.base import CATALOGUE_SCHEMA
from datamodules.sources.cells import flat, id_text, quoted_list
from datamodules.sources.prices import price_of

__all__ = ["Row", "catalogue_frame", "category_names", "item_row", "known_id", "plain_text", "price_of", "text_of"]

Row = tuple[str, str | None, str | None, list[str] | None, str | None, float | None, str | None]
"""A row of ``CATALOGUE_SCHEMA``: item_id, title, brand, categories, description, price, image."""

_SCRIPT = re.compile(r"<(script|style)\b.*?(</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?(-->|$)", re.DOTALL)
_SCRAPED = re.compile(r"var aPageStart|function\s*\(|getTime\(\)|\.a-box-inner|\{\s*background")
_UNIT = "\x1f"
_SURROGATE = re.compile("[\ud800-\udfff]")


def item_row(
    item_id: Any,
    title: Any = None,
    brand: Any = None,
    categories: Any = None,
    description: Any = None,
    price: Any = None,
    image: Any = None,
) -> Row:
    """A catalogue row of loosely typed values.

    Raises:
        ValueError: without an id.
    """
    return (
        known_id(item_id),
        text_of(title),
        text_of(brand),
        category_names(categories),
        text_of(description),
        price_of(price),
        text_of(image),
    )


def known_id(value: Any) -> str:
    """An item's id as text.

    Raises:
        ValueError: without an id.
    """
    try:
        return id_text(value)
    except ValueError as error:
        raise ValueError("no item id" if "is empty" in str(error) else f"item id {error}") from None


def catalogue_frame(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows as a table of ``CATALOGUE_SCHEMA``."""
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) if rows else [()] * len(CATALOGUE_SCHEMA)
    content = dict(zip(CATALOGUE_SCHEMA, columns, strict=True))
    # Lists are handed over as joined text, which is many times faster than a Python list a row.
    joined = [None if names is None else _UNIT.join(names) for names in content.pop("categories")]
    plain = {name: pl.Series(name, values, CATALOGUE_SCHEMA[name], strict=False) for name, values in content.items()}
    frame = pl.DataFrame({**plain, "categories": pl.Series(joined, dtype=pl.String)})
    return frame.with_columns(pl.col("categories").str.split(_UNIT)).select(list(CATALOGUE_SCHEMA))


def text_of(value: Any) -> str | None:
    """A text, or texts joined by spaces; None where there is nothing. Bytes that were not UTF-8 become U+FFFD."""
    if value is None:
        return None
    if isinstance(value, str):  # nearly always
        value = value.strip()
        return (value if value.isascii() else _SURROGATE.sub("\ufffd", value)) or None
    if isinstance(value, (list, tuple)):
        value = " ".join(text for part in value if part and (text := text_of(part)))
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            return None
        value = int(value) if value == int(value) else value  # a column of whole numbers with gaps is one of floats
    return None if isinstance(value, bool) else text_of(str(value))


def category_names(value: Any) -> list[str] | None:
    """Category names of a text, a list (also one that a text spells), or a list of paths, each once and in order."""
    if value is None:
        return None
    texts = (text.replace(_UNIT, " ") for name in flat(quoted_list(value)) if name and (text := text_of(name)))
    return list(dict.fromkeys(texts)) or None


def plain_text(value: Any) -> str | None:
    """Scraped text without markup: entities resolved (some are escaped twice), scripts and tags gone, one line.

    Returns:
        None where nothing is left, or where it is the code of a page and not a text.
    """
    value = quoted_list(value)
    if isinstance(value, list):
        return " ".join(text for part in value if part and (text := plain_text(part))) or None
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    text = str(value)
    if "&" in text:
        text = html.unescape(html.unescape(text))
    if "<" in text:
        text = _TAG.sub(" ", _SCRIPT.sub(" ", text))
    text = " ".join(text.split())
    return None if not text or _SCRAPED.search(text) else text
