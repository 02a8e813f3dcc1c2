"""Semantic IDs as a picture: how evenly each level's codes are used, and how the catalogue branches.

Apart from `tree.py`, since it computes with torch, which a page without the picture does not need.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dig.quantization import group_rows

__all__ = ["code_tree_svg"]

_WIDTH, _BAR, _ROW, _GAP = 720.0, 70.0, 26.0, 22.0
_COLOURS = ("#3b6ea5", "#5b9a8b", "#c58940", "#8a5a83", "#7a7a7a")
_MOST_BRANCHES = 4000
"""Thinner branches than these could not be seen."""


def code_tree_svg(codes: Tensor, sizes: Sequence[int]) -> str:
    """An SVG of numbers and rectangles alone.

    Above, a chart per level: items of each code, the most used first, beside the even share (dashed). Below, the tree:
    a row per level, a box per branch, as wide as its items are many; a box is one item where it is thinnest.

    Args:
        codes: ``(items, levels)``, the suffix may be the last column (-1 where an item has none).
        sizes: codes per level.
    """
    shapes, top = [], 0.0
    for level, (column, size) in enumerate(zip(codes.unbind(dim=1), sizes, strict=True), start=1):
        counts = torch.bincount(column[column >= 0], minlength=size).sort(descending=True).values
        used = int((counts > 0).sum())
        shapes.append(
            _text(0, top + 12, f"level {level}: {used} of {size} codes in use, at most {int(counts[0])} items per code")
        )
        shapes += _bars(counts, top + 18, _COLOURS[(level - 1) % len(_COLOURS)])
        top += _BAR + _GAP + 18
    shapes.append(_text(0, top + 12, f"the code tree of {len(codes):,} items: a row per level, a box per branch"))
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
