"""Amazon reviews of 2014, 2018 and 2023, and ratings without reviews."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from datamodules.sources.base import (
    CATALOGUE_SCHEMA,
    COMPRESSIONS,
    Problems,
    Tables,
    category_of,
    data_folder,
    find,
    find_one,
)
from datamodules.sources.catalogue import Row, item_row, parse_json, parse_literal, plain_text, read_metadata
from datamodules.sources.cells import flat, quoted_list
from datamodules.sources.csv_table import first_fields, read_csv, read_plain
from datamodules.sources.lines import ReviewFields, read_reviews
from dig.config import UserError
from dig.config.schema import DataConfig

__all__ = [
    "bare_catalogue",
    "item_column",
    "ratings_files",
    "read_ratings_only",
    "release_of",
    "read_both",
    "reviews_and_metadata",
    "files_2014",
    "read_2014",
    "files_2018",
    "read_2018",
    "files_2023",
    "read_2023",
]


_ASIN = re.compile(r"B[0-9A-Z]{9}|[0-9]{9}[0-9X]")
_RATING_FIELDS = 4
_NAMES = {
    "user_id": ("userid", "user", "reviewerid"),
    "item_id": ("parentasin", "asin", "productid", "itemid", "item"),
    "rating": ("rating", "overall", "stars"),
    "timestamp": ("timestamp", "time", "unixreviewtime"),
}


def item_column(path: Path) -> int | None:
    """Where the item stands in a file of ratings, 0 or 1; None for any other file."""
    rows = [row for row in first_fields(path, ",") if len(row) == _RATING_FIELDS]
    if rows and _header(rows[0]):
        names = list(_header(rows[0]))
        return names.index("item_id") if set(names[:2]) == {"user_id", "item_id"} else None
    if not rows or not all(_is_number(field) for field in rows[0][2:]):
        return None
    counts = [sum(_ASIN.fullmatch(row[place].strip('" ')) is not None for row in rows) for place in (0, 1)]
    return None if counts[0] == counts[1] else int(counts[1] > counts[0])


def ratings_files(folder: Path, category: str | None, pattern: str) -> list[Path]:
    """The files of ratings in a folder, by a pattern such as ``ratings_{}.csv``, of a category or of any."""
    names = [f"{pattern.format(category or '*')}{packed}" for packed in COMPRESSIONS]
    paths = sorted(path for name in names for path in folder.glob(name) if path.is_file())
    return [path for path in paths if item_column(path) is not None]


def release_of(path: Path) -> str:
    """The release whose order and header a file of ratings has."""
    if "parent_asin" in first_fields(path, ",", 1)[0]:
        return "amazon2023"
    return "amazon2014" if item_column(path) else "amazon2018"


def read_ratings_only(path: Path, problems: Problems, encoding: str) -> pl.DataFrame:
    """Reads user_id, item_id, timestamp (seconds) and rating.

    Raises:
        UserError: if it is damaged, or if it cannot be told which column is the item.
    """
    place = item_column(path)
    if place is None:
        raise UserError(
            f"{path}: which of the first two columns is the item cannot be told; a line must be "
            "user,item,rating,timestamp (2014) or item,user,rating,timestamp (2018)"
        )
    header = _header(first_fields(path, ",", 1)[0])
    if header:
        return read_csv(path, header, problems, encoding=encoding)
    columns = ("item_id", "user_id") if place == 0 else ("user_id", "item_id")
    return read_plain(path, ",", (*columns, "rating", "timestamp"), problems, encoding)


def bare_catalogue(interactions: pl.DataFrame, problems: Problems) -> pl.DataFrame:
    """A catalogue of nothing but the ids that were rated, for ratings without metadata beside them."""
    ids = interactions["item_id"].unique(maintain_order=True)
    problems.note("item without any text, since no metadata lie beside the ratings", len(ids))
    return pl.DataFrame({"item_id": ids}).with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in CATALOGUE_SCHEMA.items() if name != "item_id"
    )


def _header(fields: list[str]) -> dict[str, str]:
    """Our name → the header's, in its order; {} where the line is a row."""
    names = {}
    for field in fields:
        plain = re.sub(r"[\W_]", "", field.lower())
        ours = next((ours for ours, spellings in _NAMES.items() if plain in spellings), None)
        if ours:
            names[ours] = field.strip('" ')
    return names if len(names) == _RATING_FIELDS else {}


def _is_number(text: str) -> bool:
    try:
        float(text.strip('" '))
    except ValueError:
        return False
    return True


# What Amazon's releases of 2014 and 2018 share: a file of reviews, and one of metadata, a record per line.


_FIELDS = ReviewFields("reviewerID", "asin", "unixReviewTime", "overall")


def reviews_and_metadata(config: DataConfig, core: str, full: str, ratings: str) -> dict[str, Path]:
    """Amazon's two files of a category; of the reviews the 5-core, where both it and the full file are there.

    Where there are no reviews, a file of ratings alone stands for them, also without metadata beside it.

    Args:
        config: folder and category.
        core: name of the 5-core, with ``{}`` for the category.
        full: name of all reviews.
        ratings: name of the ratings alone.

    Raises:
        UserError: if one is missing.
    """
    folder = data_folder(config)
    try:
        category = category_of(folder, config, ".json")
    except UserError:
        alone = ratings_files(folder, None, ratings)
        if len(alone) != 1:
            raise
        return {"ratings": alone[0]}
    alone = ratings_files(folder, category, ratings)
    if alone and not find(folder, [core.format(category), full.format(category)]):
        metadata = find(folder, [f"meta_{category}.json"])
        return {"ratings": alone[0]} | ({"metadata": metadata[0]} if metadata else {})
    core, full = core.format(category), full.format(category)
    names = [core] if find(folder, [core]) else [full, core]
    return {
        "reviews": find_one(folder, "file of reviews", names),
        "metadata": find_one(folder, "file of metadata", [f"meta_{category}.json"]),
    }


def read_both(
    files: dict[str, Path], parse: Callable[[str], Any], convert: Callable[[dict[str, Any]], Row], encoding: str
) -> Tables:
    """Reads what :func:`reviews_and_metadata` found; ``parse`` and ``convert`` as in :func:`read_metadata`."""
    if "ratings" in files:
        of_ratings = Problems(files["ratings"])
        rated = read_ratings_only(files["ratings"], of_ratings, encoding)
        if "metadata" not in files:
            return Tables(rated, bare_catalogue(rated, of_ratings), [of_ratings])
        of_items = Problems(files["metadata"])
        catalogue = read_metadata(files["metadata"], parse, convert, of_items, encoding)
        return Tables(rated, catalogue, [of_ratings, of_items])
    of_reviews, of_items = Problems(files["reviews"]), Problems(files["metadata"])
    interactions = read_reviews(files["reviews"], _FIELDS, of_reviews, encoding)
    catalogue = read_metadata(files["metadata"], parse, convert, of_items, encoding)
    return Tables(interactions, catalogue, [of_reviews, of_items])


# Amazon reviews of 2014 (McAuley et al.): JSON lines of reviews, and metadata as one Python dict per line.


def files_2014(config: DataConfig) -> dict[str, Path]:
    """``reviews_<category>_5.json`` (or all reviews, without ``_5``) and ``meta_<category>.json``.

    Where there are no reviews, ``ratings_<category>.csv``, also without metadata.

    Raises:
        UserError: if one is missing.
    """
    return reviews_and_metadata(config, core="reviews_{}_5.json", full="reviews_{}.json", ratings="ratings_{}.csv")


def read_2014(files: dict[str, Path], config: DataConfig) -> Tables:
    """Reads reviews and metadata."""
    return read_both(files, parse_literal, _item_2014, config.encoding)


def _item_2014(record: dict[str, Any]) -> Row:
    return item_row(
        record.get("asin"),
        title=plain_text(record.get("title")),
        brand=plain_text(record.get("brand")),
        categories=record.get("categories"),
        description=plain_text(record.get("description")),
        price=record.get("price"),
        image=record.get("imUrl"),
    )


# Amazon reviews of 2018 (Ni et al., v2): JSON lines with scraped text, entities, and prices as text.


def files_2018(config: DataConfig) -> dict[str, Path]:
    """``<category>_5.json`` (or all reviews, without ``_5``) and ``meta_<category>.json``.

    Where there are no reviews, ``<category>.csv``, also without metadata.

    Raises:
        UserError: if one is missing.
    """
    return reviews_and_metadata(config, core="{}_5.json", full="{}.json", ratings="{}.csv")


def read_2018(files: dict[str, Path], config: DataConfig) -> Tables:
    """Reads reviews and metadata."""
    return read_both(files, parse_json, _item_2018, config.encoding)


def _item_2018(record: dict[str, Any]) -> Row:
    pictures = list(flat(record.get("imageURLHighRes") or record.get("imageURL")))
    return item_row(
        record.get("asin"),
        title=plain_text(record.get("title")),
        brand=plain_text(record.get("brand")),
        categories=[text for name in flat(quoted_list(record.get("category"))) if (text := plain_text(name))],
        description=plain_text(record.get("description")),
        price=record.get("price"),
        image=next(iter(pictures), None),
    )


# Amazon reviews of 2023 (Hou et al.): JSON lines by ``parent_asin``, in milliseconds, and the 5-core as CSV.


_MILLISECONDS = 1000
_FIELDS_2023 = ReviewFields("user_id", "parent_asin", "timestamp", "rating", per_second=_MILLISECONDS)
_COLUMNS = {"user_id": "user_id", "item_id": "parent_asin", "timestamp": "timestamp", "rating": "rating"}
_PARTS = ("train", "valid", "test")


def files_2023(config: DataConfig) -> dict[str, Path]:
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
    files = {"metadata": find_one(folder, "file of metadata", [f"meta_{category}.jsonl"])}
    whole = find(folder, [f"{category}.csv"]) or find(folder, [f"{category}.jsonl"])
    parts = find(folder, [f"{category}.{part}.csv" for part in _PARTS])
    if config.split == "published" or (parts and not whole):
        return files | {
            part: find_one(folder, f"{part} part of the published split", [f"{category}.{part}.csv"]) for part in _PARTS
        }
    names = [f"{category}.csv"] if whole and whole[0].name.startswith(f"{category}.csv") else [f"{category}.jsonl"]
    return files | {
        "reviews": find_one(folder, "file of reviews", names if whole else [f"{category}.csv", f"{category}.jsonl"])
    }


def read_2023(files: dict[str, Path], config: DataConfig) -> Tables:
    """Reads reviews and metadata; the published parts one after the other, so that ties in time keep their order."""
    if "metadata" not in files:
        of_ratings = Problems(files["reviews"])
        rated = _reviews(files["reviews"], of_ratings, config.encoding)
        return Tables(rated, bare_catalogue(rated, of_ratings), [of_ratings])
    of_items = Problems(files["metadata"])
    catalogue = read_metadata(files["metadata"], parse_json, _item_2023, of_items, config.encoding)
    if "reviews" in files:
        problems = Problems(files["reviews"])
        return Tables(_reviews(files["reviews"], problems, config.encoding), catalogue, [problems, of_items])
    frames, all_problems = [], [of_items]
    for number, part in enumerate(_PARTS):
        all_problems.append(Problems(files[part]))
        frame = _reviews(files[part], all_problems[-1], config.encoding)
        frames.append(frame.with_columns(pl.lit(number, pl.UInt8).alias("part")))
    if len({tuple(frame.columns) for frame in frames}) > 1:
        names = ", ".join(files[part].name for part in _PARTS)
        raise UserError(
            f"{files[_PARTS[0]].parent}: {names} differ: one has times in nanoseconds, or ratings, where another has "
            "none; write them alike"
        )
    return Tables(pl.concat(frames), catalogue, all_problems)


def _reviews(path: Path, problems: Problems, encoding: str) -> pl.DataFrame:
    if ".jsonl" in path.suffixes:
        return read_reviews(path, _FIELDS_2023, problems, encoding)
    return read_csv(path, _COLUMNS, problems, ignored=("history",), per_second=_MILLISECONDS, encoding=encoding)


def _item_2023(record: dict[str, Any]) -> Row:
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
            picture = next((url for url in flat(images.get(size)) if url), None)
        else:
            listed = images if isinstance(images, list) else []
            picture = next((image[size] for image in listed if isinstance(image, dict) and image.get(size)), None)
        if picture:
            return str(picture)
    return None
