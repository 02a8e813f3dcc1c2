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
    counts = {".": 0, ",": 0}
    for value in values:
        found = _PRICE.match(value) if isinstance(value, str) and len(value) <= _LONGEST else None
        for mark in counts if found else ():
            other = "," if mark == "." else "."
            one = _number(found["number"], mark) if found else None
            if one is not None and one % 1 and _number(found["number"], other) == one:  # type: ignore[index]
                counts[mark] += _SEPARATED.sub("", found["number"]).rfind(mark) >= 0  # type: ignore[index]
    if not any(counts.values()):
        return None
    return "," if counts[","] > counts["."] else "."


def _number(text: str, mark: str | None) -> float | None:
    text = _SEPARATED.sub("", text)
    marks = [char for char in text if char in ".,"]
    if not marks:
        return float(text)
    last = marks[-1]
    whole, fraction = text[: text.rfind(last)], text[text.rfind(last) + 1 :]
    if len(set(marks)) == 2:
        return float(f"{_digits(whole)}.{fraction}") if marks.count(last) == 1 else None
    if len(marks) > 1:  # 1.299.000, or 1,29,999 as in India
        groups = text.split(last)
        fits = len(groups[-1]) == 3 and all(1 <= len(group) <= 3 for group in groups[:-1])
        return float("".join(groups)) if fits else None
    if len(fraction) != 3 or len(whole) > 3 or whole in ("", "0"):
        return float(f"{whole or 0}.{fraction}")
    decimal = last == mark if mark else last == "."
    return float(f"{whole}.{fraction}") if decimal else float(whole + fraction)


def _digits(text: str) -> str:
    return text.replace(".", "").replace(",", "")
