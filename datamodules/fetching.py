"""`data.download=true`: what an experiment lacks is fetched; where pictures lie, and which are there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import polars as pl

from datamodules.download import RemoteFile, download_all, fetch_pictures, published_files
from datamodules.download.pictures import picture_paths
from datamodules.sources import read_source, source_files
from datamodules.sources.base import write_tables
from dig.config import UserError
from dig.config.schema import DataConfig, FilesConfig
from dig.engine.console import say

if TYPE_CHECKING:
    from dig.config.sections.data import Source

__all__ = [
    "PICTURES",
    "fetch_data",
    "fetch_item_pictures",
    "missing_files",
    "ItemPictures",
    "folder_fingerprint",
    "item_pictures",
    "named_pictures",
]


PICTURES = "pictures"
"""Subfolder of ``data.path`` that holds fetched pictures and the record of them."""
_RAW = "raw"


def fetch_data(config: DataConfig) -> None:
    """Fetches the missing files of ``data.published``.

    For a raw source they go into ``data.path``. For ``tables`` they go into ``data.path/raw`` and are converted to the
    interchange tables beside it, once, so that the experiment is the same with and without the download.

    Raises:
        UserError: if there is nothing to fetch from, or if the fetch fails.
    """
    if not config.download:
        return
    files, raw = _wanted(config)
    download_all(files, raw)
    if config.source != "tables" or not files:
        return
    folder = raw.parent
    source, _, category = str(config.published).partition("/")
    say(f"converting {config.published} to tables in {folder}")
    tables = read_source(
        replace(
            config,
            source=cast("Source", source.partition("-")[0]),  # its section checks it
            category=category,
            path=str(raw),
            columns={},
            files=FilesConfig(),
            text_columns=[],
            category_separator=None,
            unknown_items="keep",
        )
    )
    bought = tables.interactions["item_id"].unique()
    tables.catalogue = tables.catalogue.filter(tables.catalogue["item_id"].is_in(bought.implode()))
    write_tables(tables, folder)


def missing_files(config: DataConfig) -> list[Path]:
    """The files that :func:`fetch_data` would fetch, as they would lie here."""
    if not config.download:
        return []
    files, folder = _wanted(config)
    return [folder / file.name for file in files if not (folder / file.name).is_file()]


def fetch_item_pictures(config: DataConfig) -> None:
    """Fetches the pictures that the catalogue names by URL (``data.pictures.fetch``)."""
    if not config.pictures.fetch or config.source == "quickstart":
        return
    catalogue = read_source(config).catalogue.drop_nulls("image")
    urls = {item: image for item, image in catalogue.select("item_id", "image").iter_rows() if "://" in image}
    fetch_pictures(urls, Path(config.path or "").expanduser() / PICTURES, config.pictures)


def _wanted(config: DataConfig) -> tuple[list[RemoteFile], Path]:
    """The published files, and their folder; none where the tables made from them are there."""
    if not config.published or not config.path:
        raise UserError(
            "data.download=true needs data.published, a data set's name such as amazon2014/Beauty, and "
            "data.path, the folder for it",
            exit_code=2,
        )
    folder = Path(config.path).expanduser()
    files = published_files(config.published, config.mirrors)
    if config.source != "tables":
        return files, folder
    return [] if _has_tables(config) else files, folder / _RAW


def _has_tables(config: DataConfig) -> bool:
    try:
        source_files(config)
    except UserError:
        return False
    return True


_READING = b"as a person sees them\n"
"""Changes whenever :func:`dig.pictures.read_picture` gives other pixels of some pictures."""
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True)
class ItemPictures:
    """The catalogue's pictures.

    Attributes:
        rows: ``(pictures,)`` catalogue rows of the items whose picture is there.
        paths: its file, one per row.
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
    pictures = named_pictures(catalogue, folder)
    if not pictures.paths:
        if not pictures.missing:
            raise UserError(
                "visual.model is set, but no item names a picture (column `image` of the items); "
                "unset visual.model or bring pictures"
            )
        example = next(name for name in catalogue["image"] if name is not None)
        how = (
            "fetch them with data.pictures.fetch=true" if "://" in example else "did the folder move? see visual.folder"
        )
        raise UserError(
            f"not one of the {pictures.missing} pictures that items name is in {folder} (such as {example}); {how}"
        )
    return pictures


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
