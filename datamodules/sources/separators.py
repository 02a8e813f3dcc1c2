"""What stands between the categories in a cell: decided by the whole column, so that ``Food, Drink & Co`` stays one."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["Separators", "find_separators"]

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
