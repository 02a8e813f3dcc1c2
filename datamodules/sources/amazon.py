"""What Amazon's releases of 2014 and 2018 share: a file of reviews, and one of metadata, a record a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from datamodules.sources.amazon_ratings import bare_catalogue, ratings_files, read_ratings_only
from datamodules.sources.base import Problems, Tables
from datamodules.sources.catalogue import Row
from datamodules.sources.files import category_of, data_folder, find, find_one
from datamodules.sources.lines import ReviewFields, read_reviews
from datamodules.sources.metadata import read_metadata
from dig.config import UserError
from dig.config.schema import DataConfig

__all__ = ["read_both", "reviews_and_metadata"]

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
    found: dict[str, Path], parse: Callable[[str], Any], convert: Callable[[dict[str, Any]], Row], encoding: str
) -> Tables:
    """Reads what :func:`reviews_and_metadata` found; ``parse`` and ``convert`` as in :func:`read_metadata`."""
    if "ratings" in found:
        of_ratings = Problems(found["ratings"])
        rated = read_ratings_only(found["ratings"], of_ratings, encoding)
        if "metadata" not in found:
            return Tables(rated, bare_catalogue(rated, of_ratings), [of_ratings])
        of_items = Problems(found["metadata"])
        catalogue = read_metadata(found["metadata"], parse, convert, of_items, encoding)
        return Tables(rated, catalogue, [of_ratings, of_items])
    of_reviews, of_items = Problems(found["reviews"]), Problems(found["metadata"])
    interactions = read_reviews(found["reviews"], _FIELDS, of_reviews, encoding)
    catalogue = read_metadata(found["metadata"], parse, convert, of_items, encoding)
    return Tables(interactions, catalogue, [of_reviews, of_items])
