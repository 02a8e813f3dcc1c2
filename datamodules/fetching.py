"""`data.download=true`: what an experiment lacks is fetched, then read as if it had always been there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from datamodules.download import RemoteFile, download_all, fetch_pictures, published_files
from datamodules.sources import read_source, source_files
from datamodules.sources.base import write_tables
from dig.config import UserError
from dig.config.schema import DataConfig, FilesConfig
from dig.engine.console import say

__all__ = ["PICTURES", "fetch_data", "fetch_item_pictures", "missing_files"]

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
            source=source.partition("-")[0],
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
