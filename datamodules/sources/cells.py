"""What stands in a cell of a table: ids, lists, prices, and categories with something between them."""

from __future__ import annotations

import ast
import csv
import html
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

__all__ = [
    "flat",
    "id_text",
    "is_missing",
    "list_of",
    "plain_words",
    "quoted_list",
    "spelled_list",
    "decimal_mark",
    "price_of",
    "Separators",
    "find_separators",
]


_LONGEST = 100_000  # characters of a cell that is looked at as a list
_LARGEST = 2**53  # from here on a float no longer tells whole numbers apart
# What pandas, numpy and databases write where there is nothing; the second group may be somebody's title, too.
_SURE = frozenset({"nan", "NaN", "<NA>", "NaT", "#N/A", "#NA", "\\N"})
_WORDS = frozenset({"None", "none", "null", "NULL", "Null", "N/A", "n/a", "NA", "NONE"})
_CALLS = ("array(", "np.array(", "frozenset(", "c(")
_NAMES = ("name", "title", "label", "value", "category", "genre")
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>[uUbB]?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"))|(?P<number>-?\d+(?:\.\d+)?(?![\w.]))"""
    r"""|(?P<nothing>None|nan|NaN|null|<NA>)(?!\w)|(?P<mark>[\[\](){},]|(?:array|list|set|tuple|frozenset|c|np\.(?:str_|bytes_|array))\(|dtype=[\w<>']+))""",
    re.DOTALL,
)


def id_text(value: Any) -> str:
    """An id as text: whole numbers without a fraction (12.0 is ``12``), bytes decoded.

    Raises:
        ValueError: for what names nothing, with the reason.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise ValueError("is not UTF-8") from None
    if value is None or value == "" or (isinstance(value, (float, Decimal)) and math.isnan(value)):
        raise ValueError("is empty")
    if isinstance(value, (bool, list, tuple, dict)):
        raise ValueError(f"must be text or a whole number, it is a {type(value).__name__}")
    if isinstance(value, (float, Decimal)):
        if not math.isfinite(value) or value != int(value):
            raise ValueError(f"must be text or a whole number, it is {value}")
        if isinstance(value, float) and abs(value) >= _LARGEST:
            raise ValueError(
                f"{value:g} is too large for a float to tell ids apart; write them as whole numbers or text"
            )
        return str(int(value))
    return str(value)


def is_missing(value: Any, sure: bool = False) -> bool:
    """Whether a cell holds nothing: null, NaN, infinity, a truth value, or a word for a missing value.

    Args:
        value: of a cell.
        sure: whether words that may be a name, such as ``None``, count as text.
    """
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, (float, Decimal)):
        return not math.isfinite(value)
    if isinstance(value, str):
        text = value.strip()
        return not text or text in _SURE or (not sure and text in _WORDS)
    return False


def plain_words(value: Any) -> str | None:
    """The word for a missing value that a cell holds, if it does: for telling people what was decided."""
    text = value.strip() if isinstance(value, str) else ""
    return text if text in _SURE or text in _WORDS else None


def flat(value: Any) -> Iterator[Any]:
    """What nested lists hold, in order; of an object (``{"id": 1, "name": "Home"}``) its name."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (list, tuple)):
            waiting.extend(reversed(value))
        elif isinstance(value, dict):
            named = next((value[name] for name in _NAMES if value.get(name)), None)
            texts = [part for part in value.values() if isinstance(part, str)]
            waiting.extend([named] if named is not None else reversed(texts))
        else:
            yield value


def list_of(value: Any, bare: bool = False) -> list[Any] | None:
    """The elements of a list, or of a text that spells one; None for anything else.

    Args:
        value: of a cell.
        bare: whether a list may hold words without quotation marks (``[Home, Soap]``, as Spark and Postgres write).
    """
    if isinstance(value, (list, tuple, dict)):
        return list(flat(value))
    return spelled_list(value, bare) if isinstance(value, str) else None


def quoted_list(value: Any) -> Any:
    """The list that a text spells with quotation marks, or an empty one; anything else as it is: ``[2]`` is a text."""
    if not isinstance(value, str) or value.lstrip()[:1] != "[":
        return value
    listed = spelled_list(value)
    return listed if listed is not None and (not listed or "'" in value or '"' in value) else value


def spelled_list(text: str, bare: bool = False) -> list[Any] | None:
    """The elements of a list that a text spells as JSON, Python or numpy, or with ``bare`` without quotes."""
    text = text.strip()
    if len(text) > _LONGEST or len(text) < 2:
        return None
    if text.startswith(('"[', '"{')):
        text = _string(text)  # encoded twice
    if text[0] + text[-1] not in ("[]", "{}", "()") and not text.startswith(_CALLS):
        return None
    if text[0] == "(" and "," not in text:
        return None  # a remark in brackets, or an amount below 0
    parsed = _json(text)
    if parsed is None:
        parsed = _tokens(text)
    if parsed is None and "{" in text and ":" in text:
        parsed = _objects(text)
    if parsed is None and bare and text[0] in "[{":
        parsed = _bare(text[1:-1])
    return parsed


def _string(text: str) -> str:
    """What a JSON string holds; the text itself if it is none."""
    try:
        inside = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return inside if isinstance(inside, str) and inside else text


def _json(text: str) -> list[Any] | None:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return list(flat(parsed))


def _tokens(text: str) -> list[Any] | None:
    """The quoted texts and numbers of a Python or numpy list. (``literal_eval`` would join ``['Home' 'Soap']``.)"""
    tokens: list[Any] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return None
        position = token.end()
        if token["text"]:
            tokens.append(_unquoted(token["text"]))
        elif token["number"]:
            tokens.append(token["number"])
    return tokens


def _unquoted(token: str) -> str:
    token = token.lstrip("uUbB")
    if "\\" not in token:
        return token[1:-1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape that Python does not know stays as it is
            return str(ast.literal_eval(token))
    except (ValueError, SyntaxError):
        return token[1:-1]


def _objects(text: str) -> list[Any] | None:
    """A Python list of dicts, such as ``[{'id': 16, 'name': 'Animation'}]``; a literal, never code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return list(flat(parsed)) if isinstance(parsed, (list, tuple, dict)) else None


def _bare(inside: str) -> list[Any] | None:
    if any(mark in inside for mark in "[]{}"):
        return None
    fields: Iterable[str] = next(csv.reader([inside.replace("\n", " ")], skipinitialspace=True), [])
    return [field.strip().strip("'\"") for field in fields if field.strip()]


# Prices as shops write them: ``$1,250.00``, ``1.299,00 €``, ``1 299,00``, ``1'299.–``, ``5.99 - 9.99``.


_SPACES = " \u00a0\u202f\u2009\u2007"  # blank, no-break, narrow no-break, thin and figure space
_BEFORE = (
    r"\s*(?:(?:from|ab|von|dès|desde|da|ca\.?)\s+)?(?:(?:[A-Za-z]{1,3}\.?\s*)?[$€£¥₹₽₩₺₫₴฿]|[A-Za-zÅåłŁčČ]{2,3}\.?)?\s*"
)
_NUMBER = rf"(?P<number>\d+(?:[.,'’]\d+|[{_SPACES}]\d{{3}}(?!\d))*|[.,]\d+)"
_PRICE = re.compile(rf"{_BEFORE}{_NUMBER}(?!\w*\s*(?:%|(?:x|for|für)\b))")
_SCIENTIFIC = re.compile(r"\s*\d+(?:\.\d+)?[eE][+-]?\d+\s*")
_LONGEST_PRICE = 40  # characters; what is longer is a piece of a page
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
    if isinstance(value, (int, float, Decimal)) or _SCIENTIFIC.fullmatch(str(value)[:_LONGEST_PRICE]):
        price = float(value)
    else:
        match = _PRICE.match(str(value)) if len(str(value)) <= _LONGEST_PRICE else None
        number = _number(match["number"], mark) if match else None
        if number is None:
            return None
        price = number
    return price if math.isfinite(price) and price >= 0 else None


def decimal_mark(values: Iterable[Any]) -> str | None:
    """The mark before the fraction in a column of prices, by those that leave no doubt; None if there are none."""
    texts = [value for value in values if isinstance(value, str) and len(value) <= _LONGEST_PRICE]
    marks = [_mark(_SEPARATED.sub("", match["number"])) for text in texts if (match := _PRICE.match(text))]
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


# What stands between the categories in a cell: decided by the whole column, so that ``Food, Drink & Co`` stays one.


# Names of categories hardly ever hold these.
_CERTAIN = {
    "|": re.compile(r"\|"),
    ";": re.compile(r";"),
    ">": re.compile(r"[-=]?>|[›»→]"),
    "::": re.compile(r"::"),
    "·": re.compile(r"[·•]"),
    "line break": re.compile(r"[\r\n]"),
}
# These stand within names, too, so the column has to speak for them.
_POSSIBLE = {",": re.compile(r",(?!\d{3}(?!\d))"), "/": re.compile(r"/")}
_ENOUGH = 0.5  # share of the parts that stand in several cells
_ENTITY = re.compile(r"&#?\w{2,8};")
_LIST_IN_WORDS = re.compile(r"\s(?:&|and|und|et|y|e)\s")  # "Food, Drink & Co" is one name


@dataclass(frozen=True)
class Separators:
    """How the category cells of a table are split.

    Attributes:
        patterns: by the name that people know them by; all of them split.
        doubtful: a separator that stands in cells but was not taken, and in how many different ones.
    """

    patterns: dict[str, re.Pattern[str]]
    doubtful: dict[str, int]

    def split(self, text: str) -> list[str]:
        """The categories of a cell."""
        parts = [html.unescape(text) if _ENTITY.search(text) else text]
        for pattern in self.patterns.values():
            parts = [piece for part in parts for piece in _parts(pattern, part)]
        return [part for piece in parts if (part := piece.strip())]

    def splits(self, text: str) -> bool:
        """Whether a cell holds more than one category."""
        return len(self.split(text)) > 1


def find_separators(texts: Collection[str], chosen: str | None = None) -> Separators:
    """Decides how to split category cells.

    ``|``, ``;``, ``>`` and the like split wherever they stand. A comma or a slash splits if that names the same
    categories again and again: at least half of the parts of the cells that hold it must stand in another cell, too.
    ``Animation, Comedy`` beside ``Comedy, Drama`` and ``Drama`` is split; ``Food, Drink & Co`` beside ``Toys`` is not.

    Args:
        texts: the cells that are plain text.
        chosen: ``data.category_separator``: taken as it is, ``""`` splits nothing, None decides by the cells.
    """
    if chosen is not None:
        return Separators({chosen: re.compile(re.escape(chosen))} if chosen else {}, {})
    different = [html.unescape(text) if _ENTITY.search(text) else text for text in dict.fromkeys(texts) if text]
    certain = {
        name: pattern for name, pattern in _CERTAIN.items() if any(len(_parts(pattern, text)) > 1 for text in different)
    }
    if certain:
        return Separators(certain, {})
    doubtful = {}
    for name, pattern in _POSSIBLE.items():
        several = sum(len(_parts(pattern, text)) > 1 for text in different)
        if several and _repeats(pattern, different):
            return Separators({name: pattern}, {})
        if several:
            doubtful[name] = several
    return Separators({}, doubtful)


def _parts(pattern: re.Pattern[str], text: str) -> list[str]:
    if pattern is _CERTAIN[">"] and "<" in text:
        return [text]  # a tag
    return [part for piece in pattern.split(text) if (part := piece.strip())]


def _repeats(pattern: re.Pattern[str], different: Sequence[str]) -> bool:
    """Whether splitting names the same parts in several different cells."""
    cells = [_parts(pattern, text) for text in different]
    stands_in = Counter(part for parts in cells for part in dict.fromkeys(parts))
    several = [parts for parts in cells if len(parts) > 1]
    words = sum(_LIST_IN_WORDS.search(parts[-1]) is not None for parts in several)
    again = sum(stands_in[part] > 1 for parts in several for part in parts)
    return len(several) > 1 and 2 * words <= len(several) and again >= _ENOUGH * sum(map(len, several))
