"""Pictures of items, small enough to lie within the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

__all__ = ["SIDE", "Thumbnails"]

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
