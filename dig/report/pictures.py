"""Pictures: items small enough to lie within the page, and histograms as text or PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["histogram_png", "histogram_text", "SIDE", "Thumbnails"]


_EIGHTHS = " ▏▎▍▌▋▊▉"
_WIDTH, _HEIGHT = 1200, 600
_LEFT, _RIGHT, _TOP, _BOTTOM = 110, 30, 70, 90
_INK, _GRID, _BAR, _PAPER = "#1f2933", "#d9dee4", "#3b6ea5", "#ffffff"
_TICKS = 4


def histogram_text(title: str, labels: Sequence[str], counts: Sequence[int], width: int = 80) -> list[str]:
    """Lines with a bar a bin, the longest as wide as there is room.

    Args:
        title: the first line.
        labels: (bins,).
        counts: (bins,).
        width: characters per line.
    """
    most = max(counts, default=0)
    names, numbers = max(map(len, labels), default=0), len(f"{most:,}")
    room = max(width - names - numbers - 4, 1)
    lines = [title]
    for label, count in zip(labels, counts, strict=True):
        eighths = round(count / most * room * 8) if most else 0
        bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
        lines.append(f"{label:>{names}}  {count:>{numbers},}  {bar}".rstrip())
    return lines


def histogram_png(title: str, unit: str, labels: Sequence[str], counts: Sequence[int], path: Path) -> None:
    """Draws a histogram, 1200 × 600 pixels.

    Args:
        title: above the bars.
        unit: under the bars.
        labels: (bins,).
        counts: (bins,).
        path: the file.
    """
    from PIL import Image, ImageDraw, ImageFont  # a page without histograms as files does not wait for it

    picture = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    draw = ImageDraw.Draw(picture)
    large, small = ImageFont.load_default(28), ImageFont.load_default(18)
    draw.text((_LEFT, 22), title, _INK, large)
    top = _tick_step(max(counts, default=1)) * _TICKS
    bottom = _HEIGHT - _BOTTOM
    for tick in range(_TICKS + 1):
        y = bottom - (bottom - _TOP) * tick / _TICKS
        draw.line((_LEFT, y, _WIDTH - _RIGHT, y), _GRID)
        draw.text((_LEFT - 12, y), f"{top * tick // _TICKS:,}", _INK, small, anchor="rm")
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    every = max(1, -(-len(labels) * 75 // (_WIDTH - _LEFT - _RIGHT)))  # labels need 75 pixels each
    for place, (label, count) in enumerate(zip(labels, counts, strict=True)):
        x = _LEFT + place * step
        draw.rectangle((x + step * 0.1, bottom - (bottom - _TOP) * count / top, x + step * 0.9, bottom), _BAR)
        if place % every == 0:
            draw.text((x + step / 2, bottom + 10), label, _INK, small, anchor="mt")
    draw.line((_LEFT, bottom, _WIDTH - _RIGHT, bottom), _INK)
    draw.text(((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 28), unit, _INK, small, anchor="mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _tick_step(most: int) -> int:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten whose fourfold reaches the largest count."""
    power = 1
    while True:
        for factor in (1.0, 2.0, 2.5, 5.0):
            if factor * power == int(factor * power) and factor * power * _TICKS >= most:
                return int(factor * power)
        power *= 10


# Pictures of items, small enough to lie within the page.


SIDE = 112
"""Pixels of the longer side: twice what the page shows, for dense screens."""


class Thumbnails:
    """Data URIs of items' pictures, each made once, until there are enough of them.

    Args:
        paths: picture files by item id.
        most: pictures at most, so that the page stays small.
    """

    def __init__(self, paths: Mapping[str, Path], most: int = 200) -> None:
        self.paths, self.most = paths, most
        self._made: dict[str, str] = {}

    def __call__(self, item: str | None) -> str:
        """The picture as a data URI, empty where there is none, it is damaged, or there are enough."""
        if item is None or item not in self.paths:
            return ""
        if item not in self._made:
            if len(self._made) >= self.most:
                return ""
            self._made[item] = _thumbnail(self.paths[item])
        return self._made[item]


def _thumbnail(path: Path) -> str:
    from dig.pictures import read_picture

    picture = read_picture(path)
    if picture is None:
        return ""
    picture.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=72, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
