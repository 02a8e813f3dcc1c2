"""Prices as shops write them: ``$1,250.00``, ``1.299,00 €``, ``1 299,00``, ``1'299.–``, ``5.99 - 9.99``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

__all__ = ["decimal_mark", "price_of"]

_SPACES = " \u00a0\u202f\u2009\u2007"  # blank, no-break, narrow no-break, thin and figure space
_BEFORE = (
    r"\s*(?:(?:from|ab|von|dès|desde|da|ca\.?)\s+)?(?:(?:[A-Za-z]{1,3}\.?\s*)?[$€£¥₹₽₩₺₫₴฿]|[A-Za-zÅåłŁčČ]{2,3}\.?)?\s*"
)
_NUMBER = rf"(?P<number>\d+(?:[.,'’]\d+|[{_SPACES}]\d{{3}}(?!\d))*|[.,]\d+)"
_PRICE = re.compile(rf"{_BEFORE}{_NUMBER}(?!\w*\s*(?:%|(?:x|for|für)\b))")
_SCIENTIFIC = re.compile(r"\s*\d+(?:\.\d+)?[eE][+-]?\d+\s*")
_LONGEST = 40  # characters; what is longer is a piece of a page
_SEPARATED = re.compile(rf"[{_SPACES}'’]")


def price_of(value: Any, mark: str | None = None) -> float | None:
    """A price in any of the usual spellings, the first of a range; None where there is none, or one below 0.

    The last mark before one, two or more than three digits is the decimal one, and marks before three digits separate
    thousands where there are several or both kinds. One mark before exactly three digits says neither: ``mark``
    decides, and without it ``1.299`` is 1.299, as programs write, and ``1,299`` is 1299, as people do.

    Args:
        value: a number or text. A price in words, or a scraped piece of a page, says nothing that dig uses.
        mark: ``.`` or ``,`` where the other prices of the column tell what stands before their fraction.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float, Decimal)) or _SCIENTIFIC.fullmatch(str(value)[:_LONGEST]):
        price = float(value)
    else:
        found = _PRICE.match(str(value)) if len(str(value)) <= _LONGEST else None
        number = _number(found["number"], mark) if found else None
        if number is None:
            return None
        price = number
    return price if math.isfinite(price) and price >= 0 else None


def decimal_mark(values: Iterable[Any]) -> str | None:
    """The mark before the fraction in a column of prices, by those that leave no doubt; None if there are none."""
    texts = [value for value in values if isinstance(value, str) and len(value) <= _LONGEST]
    marks = [_mark(_SEPARATED.sub("", found["number"])) for text in texts if (found := _PRICE.match(text))]
    if not any(marks):
        return None
    return "," if marks.count(",") > marks.count(".") else "."


def _mark(number: str) -> str | None:
    """The mark before the fraction (the one that would be there, in ``1,299,000``), None where it cannot be told."""
    marks = [char for char in number if char in ".,"]
    if not marks:
        return None
    last = marks[-1]
    if len(set(marks)) == 2:
        return last
    if len(marks) > 1:
        return "." if last == "," else ","
    whole, fraction = number.split(last)
    return last if len(fraction) != 3 or len(whole) > 3 or whole in ("", "0") else None


def _number(text: str, mark: str | None) -> float | None:
    text = _SEPARATED.sub("", text)
    before = _mark(text) or mark or "."
    whole, _, fraction = text.rpartition(before) if before in text else (text, "", "")
    grouped = [char for char in whole if char in ".,"]
    groups = whole.split(grouped[0]) if grouped else []
    if before in grouped or len(set(grouped)) > 1 or (groups and (len(groups[-1]) != 3 or not _sizes(groups))):
        return None  # a date, a version
    return float(f"{whole.replace(grouped[0], '') if grouped else whole or 0}.{fraction or 0}")


def _sizes(groups: list[str]) -> bool:
    """Thousands, or the lakhs of India: one to three digits, then two or three each."""
    return 1 <= len(groups[0]) <= 3 and all(len(group) in (2, 3) for group in groups[1:])
