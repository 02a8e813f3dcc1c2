"""Semantic IDs as a picture of the tree, and as a tree to walk through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dig.quantization import group_rows
from dig.report.formats import shorten

if TYPE_CHECKING:
    from dig.quantization import SemanticIds

__all__ = ["code_tree_svg", "Branch", "CodeTree", "code_tree"]


_WIDTH, _BAR, _ROW, _GAP = 720.0, 70.0, 26.0, 22.0
_COLOURS = ("#3b6ea5", "#5b9a8b", "#c58940", "#8a5a83", "#7a7a7a")
_MOST_BRANCHES = 4000
"""Thinner branches than these could not be seen."""


def code_tree_svg(codes: Tensor, sizes: Sequence[int]) -> str:
    """An SVG of numbers and rectangles alone.

    Above, a chart a level: items of each code, the most used first, beside the even share (dashed). Below, the tree: a
    row a level, a box a branch, as wide as its items are many; a box is one item where it is thinnest.

    Args:
        codes: ``(items, levels)``, the suffix may be the last column (-1 where an item has none).
        sizes: codes a level.
    """
    shapes, top = [], 0.0
    for level, (column, size) in enumerate(zip(codes.unbind(dim=1), sizes, strict=True), start=1):
        counts = torch.bincount(column[column >= 0], minlength=size).sort(descending=True).values
        used = int((counts > 0).sum())
        shapes.append(
            _text(0, top + 12, f"level {level}: {used} of {size} codes in use, at most {int(counts[0])} items a code")
        )
        shapes += _bars(counts, top + 18, _COLOURS[(level - 1) % len(_COLOURS)])
        top += _BAR + _GAP + 18
    shapes.append(_text(0, top + 12, f"the code tree of {len(codes):,} items: a row a level, a box a branch"))
    top += 20
    order = _tree_order(codes)
    for level in range(1, codes.shape[1] + 1):
        shapes += _boxes(group_rows(codes[order, :level]), top, _COLOURS[(level - 1) % len(_COLOURS)])
        top += _ROW + 3
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {top:.0f}" role="img">'
    return "\n".join([head, "<title>Use of the codes and the code tree</title>", *shapes, "</svg>\n"])


def _bars(counts: Tensor, top: float, colour: str) -> list[str]:
    highest, width = max(int(counts[0]), 1), _WIDTH / len(counts)
    points = [f"0,{top + _BAR:.1f}"]
    for place, count in enumerate(counts.tolist()):
        y = top + _BAR * (1 - count / highest)
        points += [f"{place * width:.2f},{y:.2f}", f"{(place + 1) * width:.2f},{y:.2f}"]
    points.append(f"{_WIDTH:.2f},{top + _BAR:.1f}")
    even = top + _BAR * (1 - float(counts.double().mean()) / highest)
    line = f'<line x1="0" x2="{_WIDTH:.0f}" y1="{even:.2f}" y2="{even:.2f}" stroke="#444" stroke-dasharray="4 3"/>'
    return [f'<polygon points="{" ".join(points)}" fill="{colour}"/>', line]


def _tree_order(codes: Tensor) -> Tensor:
    """Rows sorted by their codes, the first column first."""
    order = torch.arange(len(codes))
    for column in reversed(codes.unbind(dim=1)):
        order = order[column[order].argsort(stable=True)]
    return order


def _boxes(groups: Tensor, top: float, colour: str) -> list[str]:
    _, widths = torch.unique_consecutive(groups, return_counts=True)
    ends = widths.cumsum(dim=0)
    unit = _WIDTH / len(groups)
    step = max(1, -(-len(widths) // _MOST_BRANCHES))
    boxes = []
    for place in range(0, len(widths), step):
        start = int(ends[place] - widths[place])
        width = float(ends[min(place + step, len(widths)) - 1] - start) * unit
        shade = 1.0 if place // step % 2 else 0.65
        boxes.append(
            f'<rect x="{start * unit:.2f}" y="{top:.1f}" width="{width:.2f}" height="{_ROW:.0f}" '
            f'fill="{colour}" fill-opacity="{shade}"/>'
        )
    return boxes


def _text(x: float, y: float, words: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-family="sans-serif" font-size="12" fill="currentColor">{words}</text>'


# The tree of Semantic IDs to walk through: counts and titles of every branch, in a few hundred kilobytes.


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
