"""Amazon reviews of 2023 (Hou et al.): JSON lines by ``parent_asin``, in milliseconds, and the 5-core as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from datamodules.sources.amazon_ratings import bare_catalogue, ratings_files
from datamodules.sources.base import Problems, Tables
from datamodules.sources.catalogue import Row, item_row, plain_text
from datamodules.sources.cells import flat
from datamodules.sources.csv_table import read_csv
from datamodules.sources.files import category_of, data_folder, find, find_one
from datamodules.sources.lines import ReviewFields, read_reviews
from datamodules.sources.metadata import parse_json, read_metadata
from dig.config import UserError
from dig.config.schema import DataConfig

__all__ = ["files", "read"]

_MILLISECONDS = 1000
_FIELDS = ReviewFields("user_id", "parent_asin", "timestamp", "rating", per_second=_MILLISECONDS)
_COLUMNS = {"user_id": "user_id", "item_id": "parent_asin", "timestamp": "timestamp", "rating": "rating"}
_PARTS = ("train", "valid", "test")


def files(config: DataConfig) -> dict[str, Path]:
    """Metadata, and one of: the split ``<category>.{train,valid,test}.csv``, ``<category>.csv``, ``<category>.jsonl``.

    A file of ratings, ``<category>.csv``, is read without metadata beside it, too.

    The split's files are read for ``data.split=published``, and otherwise when there are no others.

    Raises:
        UserError: if something is missing.
    """
    folder = data_folder(config)
    try:
        category = category_of(folder, config, ".jsonl")
    except UserError:
        alone = ratings_files(folder, None, "{}.csv")
        if len(alone) != 1 or config.split == "published":
            raise
        return {"reviews": alone[0]}
    found = {"metadata": find_one(folder, "file of metadata", [f"meta_{category}.jsonl"])}
    whole = find(folder, [f"{category}.csv"]) or find(folder, [f"{category}.jsonl"])
    parts = find(folder, [f"{category}.{part}.csv" for part in _PARTS])
    if config.split == "published" or (parts and not whole):
        return found | {
            part: find_one(folder, f"{part} part of the published split", [f"{category}.{part}.csv"]) for part in _PARTS
        }
    names = [f"{category}.csv"] if whole and whole[0].name.startswith(f"{category}.csv") else [f"{category}.jsonl"]
    return found | {
        "reviews": find_one(folder, "file of reviews", names if whole else [f"{category}.csv", f"{category}.jsonl"])
    }


def read(found: dict[str, Path], config: DataConfig) -> Tables:
    """Reads reviews and metadata; the published parts one after the other, so that ties in time keep their order."""
    if "metadata" not in found:
        of_ratings = Problems(found["reviews"])
        rated = _reviews(found["reviews"], of_ratings, config.encoding)
        return Tables(rated, bare_catalogue(rated, of_ratings), [of_ratings])
    of_items = Problems(found["metadata"])
    catalogue = read_metadata(found["metadata"], parse_json, _item, of_items, config.encoding)
    if "reviews" in found:
        problems = Problems(found["reviews"])
        return Tables(_reviews(found["reviews"], problems, config.encoding), catalogue, [problems, of_items])
    frames, all_problems = [], [of_items]
    for number, part in enumerate(_PARTS):
        all_problems.append(Problems(found[part]))
        frame = _reviews(found[part], all_problems[-1], config.encoding)
        frames.append(frame.with_columns(pl.lit(number, pl.UInt8).alias("part")))
    if len({tuple(frame.columns) for frame in frames}) > 1:
        names = ", ".join(found[part].name for part in _PARTS)
        raise UserError(
            f"{found[_PARTS[0]].parent}: {names} differ: one has times in nanoseconds, or ratings, where another has "
            "none; write them alike"
        )
    return Tables(pl.concat(frames), catalogue, all_problems)


def _reviews(path: Path, problems: Problems, encoding: str) -> pl.DataFrame:
    if ".jsonl" in path.suffixes:
        return read_reviews(path, _FIELDS, problems, encoding)
    return read_csv(path, _COLUMNS, problems, ignored=("history",), per_second=_MILLISECONDS, encoding=encoding)


def _item(record: dict[str, Any]) -> Row:
    texts = [*_as_list(record.get("description")), *_as_list(record.get("features"))]
    return item_row(
        record.get("parent_asin"),
        title=plain_text(record.get("title")),
        brand=plain_text(record.get("store")),
        categories=record.get("categories"),
        description=plain_text(texts),
        price=record.get("price"),
        image=_picture(record.get("images")),
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _picture(images: Any) -> str | None:
    """The first picture's best version; the field is a list of dicts, or in some exports a dict of lists."""
    for size in ("hi_res", "large", "thumb"):
        if isinstance(images, dict):
            found = next((url for url in flat(images.get(size)) if url), None)
        else:
            listed = images if isinstance(images, list) else []
            found = next((image[size] for image in listed if isinstance(image, dict) and image.get(size)), None)
        if found:
            return str(found)
    return None
