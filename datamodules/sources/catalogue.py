"""Item records of any source to rows of the catalogue."""

from __future__ import annotations

import html
import re
from typing import Any

__all__ = ["Row", "category_names", "item_row", "plain_text", "price_of"]

Row = tuple[str, str | None, str | None, list[str] | None, str | None, float | None, str | None]
"""A row of ``CATALOGUE_SCHEMA``: item_id, title, brand, categories, description, price, image."""

_SCRIPT = re.compile(r"<(script|style)\b.*?(</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?(-->|$)", re.DOTALL)
_SCRAPED = re.compile(r"var aPageStart|function\s*\(|getTime\(\)|\.a-box-inner|\{\s*background")
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


def _text(value: Any) -> str | None:
    """A text, or texts joined by spaces; None where there is nothing. Bytes that were not UTF-8 become U+FFFD."""
    if isinstance(value, list):
        value = " ".join(str(part) for part in value if part)
    if value is None:
        return None
    return re.sub("[\ud800-\udfff]", "\ufffd", str(value)).strip() or None


def category_names(value: Any) -> list[str] | None:
    """Category names of a list, or of a list of paths, each once and in order."""
    if value is None:
        return None
    parts = value if isinstance(value, list) else [value]
    names = [name for part in parts for name in (part if isinstance(part, list) else [part])]
    return list(dict.fromkeys(cleaned for name in names if name and (cleaned := _text(name)))) or None


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
    text = html.unescape(html.unescape(str(value)))
    text = _TAG.sub(" ", _SCRIPT.sub(" ", text))
    text = " ".join(text.split())
    return None if not text or _SCRAPED.search(text) else text
