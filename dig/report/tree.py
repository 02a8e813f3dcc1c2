"""The tree of Semantic IDs to walk through: counts and titles of every branch, in a few hundred kilobytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dig.report.formats import shorten

if TYPE_CHECKING:
    from dig.quantization import SemanticIds

__all__ = ["Branch", "CodeTree", "code_tree"]

_LISTED = 8
"""A branch of so few items lists them instead of branching on."""
_BUDGET = 6_000
"""Titles that the tree may hold."""
_SIZES = ((8, 64), (4, 48), (2, 32), (1, 24), (1, 12), (1, 6), (1, 3))
"""Items a list and branches a branch, from generous to sparing."""
_ROOTS = 512
_TITLE = 80


@dataclass(frozen=True)
class Branch:
    """A code of the first level, as the page shows it before anybody opens it."""

    code: int
    items: int
    titles: list[str]


@dataclass(frozen=True)
class CodeTree:
    """The tree in parts.

    Attributes:
        roots: branches of the first level, the largest first.
        below: for each root what is below it: ``[[code, items, below, titles], …]`` with the largest branches first, or
            the items themselves, ``[[codes, title], …]``; then how many branches and items were left out.
        left_out: branches of the first level that are not shown.
    """

    roots: list[Branch]
    below: list[dict[str, Any]]
    left_out: int = 0


def code_tree(ids: SemanticIds, titles: Mapping[str, str]) -> CodeTree:
    """The tree of a catalogue. Large ones are sampled: every list is cut alike until the titles fit the budget."""
    codes = ids.codes.numpy()
    order = np.lexsort(codes.T[::-1])
    codes, names = codes[order], [ids.item_ids[row] for row in order]
    for listed, width in _SIZES:
        grown = _Growing(codes, names, titles, listed, width)
        roots, left_out = grown.branches(0, len(codes), 0, _ROOTS)
        below = [grown.below(start, end, 1) for _, start, end in roots]
        if grown.shown <= _BUDGET:
            break
    shown = [Branch(code, end - start, grown.examples(start, end)) for code, start, end in roots]
    return CodeTree(shown, below, left_out)


class _Growing:
    """Grows the tree over rows that are sorted by their codes; a branch is a range of rows."""

    def __init__(self, codes: np.ndarray, names: list[str], titles: Mapping[str, str], listed: int, width: int) -> None:
        self.codes, self.names, self.titles = codes, names, titles
        self.listed, self.width = listed, width
        self.shown = 0

    def branches(self, start: int, end: int, level: int, width: int) -> tuple[list[tuple[int, int, int]], int]:
        """Code, first and last row of the largest branches, and how many others there are."""
        column = self.codes[start:end, level]
        firsts = np.flatnonzero(np.r_[True, column[1:] != column[:-1]]) if len(column) else np.array([], dtype=int)
        ends = np.r_[firsts[1:], len(column)]
        largest = np.argsort(firsts - ends, kind="stable")[:width]
        branches = [(int(column[firsts[at]]), start + int(firsts[at]), start + int(ends[at])) for at in largest]
        return branches, len(firsts) - len(branches)

    def below(self, start: int, end: int, level: int) -> dict[str, Any]:
        """What is below a branch whose codes before ``level`` are equal."""
        if self.shown > _BUDGET:
            return {}
        if end - start <= _LISTED or level >= self.codes.shape[1]:
            rows = range(start, min(end, start + self.listed))
            self.shown += len(rows)
            listed = [[self._spelled(row, level), self._title(row)] for row in rows]
            return {"items": listed} | ({"more": end - start - len(rows)} if end - start > len(rows) else {})
        branches, hidden = self.branches(start, end, level, self.width)
        grown = [
            [code, last - first, self.below(first, last, level + 1), self._samples(first, last)]
            for code, first, last in branches
        ]
        left = end - start - sum(last - first for _, first, last in branches)
        return {"branches": grown} | ({"hidden": hidden, "more": left} if hidden else {})

    def examples(self, start: int, end: int) -> list[str]:
        """Titles of the first and of the middle item."""
        return [self._title(row) for row in dict.fromkeys([start, (start + end) // 2])]

    def _samples(self, start: int, end: int) -> list[str]:
        """Examples of a branch within the tree; a list of few items needs none."""
        return self.examples(start, end) if end - start > _LISTED else []

    def _title(self, row: int) -> str:
        return shorten(self.titles.get(self.names[row]) or self.names[row], _TITLE)

    def _spelled(self, row: int, level: int) -> str:
        return " ".join(str(code) for code in self.codes[row, level:].tolist() if code >= 0)
