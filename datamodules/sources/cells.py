"""What a cell of a table of one's own says: an id, a missing value, or a list that was written as text.

Programs write lists into cells in many ways (JSON, Python, numpy, Spark, Postgres), and missing values as words.
Nothing here is evaluated: a text is a list only if it consists of nothing but quoted texts, numbers and punctuation.
"""

from __future__ import annotations

import ast
import csv
import json
import math
import re
import warnings
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

__all__ = ["flat", "id_text", "is_missing", "list_of", "plain_words", "quoted_list", "spelled_list"]

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
    found = _json(text)
    if found is None:
        found = _tokens(text)
    if found is None and "{" in text and ":" in text:
        found = _objects(text)
    if found is None and bare and text[0] in "[{":
        found = _bare(text[1:-1])
    return found


def _string(text: str) -> str:
    """What a JSON string holds; the text itself if it is none."""
    try:
        inside = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return inside if isinstance(inside, str) and inside else text


def _json(text: str) -> list[Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return list(flat(found))


def _tokens(text: str) -> list[Any] | None:
    """The quoted texts and numbers of a Python or numpy list. (``literal_eval`` would join ``['Home' 'Soap']``.)"""
    found: list[Any] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return None
        position = token.end()
        if token["text"]:
            found.append(_unquoted(token["text"]))
        elif token["number"]:
            found.append(token["number"])
    return found


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
            found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return list(flat(found)) if isinstance(found, (list, tuple, dict)) else None


def _bare(inside: str) -> list[Any] | None:
    if any(mark in inside for mark in "[]{}"):
        return None
    fields: Iterable[str] = next(csv.reader([inside.replace("\n", " ")], skipinitialspace=True), [])
    return [field.strip().strip("'\"") for field in fields if field.strip()]
