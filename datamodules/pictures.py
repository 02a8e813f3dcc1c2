"""Where the catalogue's pictures lie, and which of them are there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from datamodules.download.pictures import picture_paths
from datamodules.fetching import PICTURES
from dig.config import UserError

__all__ = ["ItemPictures", "folder_fingerprint", "item_pictures", "named_pictures"]

_READING = b"as a person sees them\n"
"""Changes whenever :func:`dig.pictures.read_picture` gives other pixels of some pictures."""
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True)
class ItemPictures:
    """The catalogue's pictures.

    Attributes:
        rows: ``(pictures,)`` catalogue rows of the items whose picture is there.
        paths: its file, one a row.
        unnamed: items without a picture in the catalogue.
        missing: items whose picture is named but is not there.
    """

    rows: np.ndarray
    paths: list[Path]
    unnamed: int
    missing: int


def item_pictures(catalogue: pl.DataFrame, folder: Path) -> ItemPictures:
    """The pictures of :func:`named_pictures`, of which there must be one at least.

    Raises:
        UserError: when pictures are named and not one of them is there, or none is named.
    """
    found = named_pictures(catalogue, folder)
    if not found.paths:
        if not found.missing:
            raise UserError(
                "visual.model is set, but no item names a picture (column `image` of the items); "
                "unset visual.model or bring pictures"
            )
        example = next(name for name in catalogue["image"] if name is not None)
        how = (
            "fetch them with data.pictures.fetch=true" if "://" in example else "did the folder move? see visual.folder"
        )
        raise UserError(
            f"not one of the {found.missing} pictures that items name is in {folder} (such as {example}); {how}"
        )
    return found


def named_pictures(catalogue: pl.DataFrame, folder: Path) -> ItemPictures:
    """Finds every item's picture: a path relative to the folder, or what was fetched from its address."""
    fetched = picture_paths(folder / PICTURES) if (folder / PICTURES).is_dir() else {}
    names = catalogue["image"].to_list() if "image" in catalogue.columns else [None] * len(catalogue)
    rows, paths, missing = [], [], 0
    inside = folder.resolve()
    for row, (item_id, name) in enumerate(zip(catalogue["item_id"].to_list(), names, strict=True)):
        if name is None:
            continue
        path = fetched.get(item_id) if "://" in name else folder / name
        if path is None or not path.is_file() or not path.resolve().is_relative_to(inside):
            missing += 1
            continue
        rows.append(row)
        paths.append(path)
    return ItemPictures(np.array(rows, dtype=np.int64), paths, len(catalogue) - len(rows) - missing, missing)


def folder_fingerprint(folder: Path) -> str:
    """Identifies the pictures under a folder by their names, sizes and times; reads none of them.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"visual.folder: there is no folder {folder}")
    digest = hashlib.sha256(_READING)
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()):
        status = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
