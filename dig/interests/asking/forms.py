"""The forms in which a model may give one JSON object: fenced, after thoughts or prose, wrapped, half quoted.

Form is taken off here and nothing is judged: what an answer says is judged by :mod:`dig.interests.asking.answers`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Mapping
from typing import Any

__all__ = [
    "behind_thoughts",
    "cut_object",
    "joined_texts",
    "json_objects",
    "number_of",
    "with_known_keys",
    "without_thoughts",
]

_TAGS = "think|thinking|thought|reasoning|reflection|scratchpad"
_THOUGHT = re.compile(rf"<({_TAGS})>.*?</\1>", re.DOTALL | re.IGNORECASE)
_END_OF_THOUGHT = re.compile(rf"</(?:{_TAGS})>", re.IGNORECASE)
_START_OF_THOUGHT = re.compile(rf"<(?:{_TAGS})>", re.IGNORECASE)
_STARTS = 64
"""Places at which an object is looked for; more braces than that are not prose around an answer."""
_DEPTH = 4
"""Wrappers that are taken off one inside the other."""
_DECODER = json.JSONDecoder(strict=False)  # a line break inside a text is form, too
_BEGIN = re.compile(r"[{\[]")
_PIECES = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[^"\']+|["\']', re.DOTALL)
_STRUCTURE = re.compile(r'"(?:\\.|[^"\\])*(?:"|\Z)|[{}\[\]]', re.DOTALL)
"""Texts, also one that does not end, and brackets outside of them."""
_CLOSERS = {"{": "}", "[": "]"}
_COMMA = re.compile(r",(\s*[}\]])")
_WORDS = {"None": "null", "True": "true", "False": "false"}
_WORD = re.compile(r"\b(?:None|True|False)\b")
_NUMBER = re.compile(r"(\d{1,3}(?:[.,]\d{1,20})?|[.,]\d{1,20})\s*(%?)")
_CURLY = str.maketrans("\u201c\u201d\u201e\u201f", '""""')


def without_thoughts(text: str) -> str:
    """The text without byte order marks and without what the model thought aloud.

    Templates may write the opening tag themselves, so all up to a closing tag is thought, too. Behind an opening tag
    that is never closed an answer may stand, so only the tag goes.
    """
    content = _THOUGHT.sub("", text.replace("\ufeff", ""))
    return _START_OF_THOUGHT.sub("", behind_thoughts(content)).strip()


def behind_thoughts(text: str) -> str:
    """What follows the last closing tag of a thought; takes time in proportion to the text, whatever it is."""
    return _END_OF_THOUGHT.split(text)[-1]


def json_objects(text: str) -> Iterator[tuple[list[dict[str, Any]], str | None]]:
    """Readings of a text, the strict one first: the JSON objects that stand in it side by side, out of their wrappers.

    Yields:
        The objects, in order; and what is wrong with the first beginning of one that cannot be read, None where all
        can be. A second reading, of mended text, follows only where something is wrong.
    """
    if '"' not in text and "'" not in text:  # every quote is a typographer's, so none of them belongs to a text
        text = text.translate(_CURLY)
    objects, problem = _read_all(text)
    yield objects, problem
    if problem is not None:
        yield _read_all(_mended(text))


def _read_all(text: str) -> tuple[list[dict[str, Any]], str | None]:
    objects: list[dict[str, Any]] = []
    problem: str | None = None
    begin = 0 if text.startswith('"') else _next(text, 0)  # a text may be JSON inside a JSON string
    for _ in range(_STARTS):
        if begin < 0:
            break
        try:
            value, end = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError) as error:
            problem = problem or (error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__)
            if isinstance(error, RecursionError):
                break
            begin = _next(text, begin + 1)
            continue
        objects += _unwrapped(value)
        begin = _next(text, end)
    return objects, problem


def _next(text: str, place: int) -> int:
    """Where the next object or list may begin, -1 where none does."""
    begin = _BEGIN.search(text, place)
    return begin.start() if begin else -1


def cut_object(text: str) -> str | None:
    """A JSON object whose end is missing, up to its last whole object of a list, with what is open behind it closed.

    Returns:
        None where no list holds a whole object, and where the text is whole.
    """
    closers: list[str] = []
    whole: tuple[int, str] | None = None
    begin = text.find("{")
    for token in _STRUCTURE.finditer(text, begin) if begin >= 0 else ():
        mark = token[0]
        if mark in _CLOSERS:
            closers.append(_CLOSERS[mark])
        elif mark in "]}":
            if not closers or closers.pop() != mark:
                return None
            if not closers:
                return None
            if mark == "}" and closers[-1] == "]":
                whole = token.end(), "".join(reversed(closers))
    return None if whole is None else text[begin : whole[0]] + whole[1]


def _unwrapped(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """An object out of a list of one, out of a text that holds JSON, out of a key of its own."""
    if depth > _DEPTH:
        return
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            inner = _DECODER.decode(value)
        except (ValueError, RecursionError):
            return
        yield from _unwrapped(inner, depth + 1)
    elif isinstance(value, list) and len(value) == 1 and isinstance(value[0], (dict, str)):
        yield from _unwrapped(value[0], depth + 1)
    elif isinstance(value, dict):
        inner = next(iter(value.values())) if len(value) == 1 else None
        wrapped = list(_unwrapped(inner, depth + 1)) if isinstance(inner, (dict, list, str)) else []
        yield from wrapped or [value]


def _mended(text: str) -> str:
    """From the first to the last brace, without commas behind a last entry, Python's quotes and words as in JSON."""
    pieces = []
    for piece in _PIECES.findall(text[text.find("{") : text.rfind("}") + 1]):
        if piece.startswith('"'):
            pieces.append(piece)
        elif piece.startswith("'") and len(piece) > 1:
            inner = piece[1:-1].replace("\\'", "'").replace('\\"', '"').replace('"', '\\"')
            pieces.append(f'"{inner}"')
        else:
            pieces.append(_WORD.sub(lambda word: _WORDS[word[0]], piece))
    return "".join(piece if piece.startswith('"') else _COMMA.sub(r"\1", piece) for piece in pieces)


def with_known_keys(value: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
    """The object with keys that differ from known ones in case or blanks alone as these; null counts as not given."""
    fields: dict[str, Any] = {}
    for key, each in value.items():
        plain = key.strip().casefold()
        name = plain if plain in names and plain not in value else key
        if each is not None:
            fields.setdefault(name, each)
    return fields


def joined_texts(value: Any, depth: int = 0) -> Any:
    """Texts and numbers out of lists and objects as one text; anything else as it is."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    parts = value.values() if isinstance(value, dict) else value
    if isinstance(value, str) or not isinstance(value, (dict, list)) or depth > _DEPTH:
        return value
    texts = [joined_texts(part, depth + 1) for part in parts if part is not None]
    return "; ".join(texts) if all(isinstance(text, str) for text in texts) else value


def number_of(value: Any) -> Any:
    """A number that is written as text, per cent as a share; anything else as it is."""
    if not isinstance(value, str) or not (match := _NUMBER.fullmatch(value.strip())):
        return value
    number = float(match[1].replace(",", "."))
    return number / 100.0 if match[2] else number
