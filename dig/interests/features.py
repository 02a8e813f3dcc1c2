"""What the RLDI classifier sees of an interest: its shape, its rank, and whether the item's own words bear it out."""

from __future__ import annotations

from collections.abc import Mapping
from math import log1p

import numpy as np
import polars as pl

from dig.interests.interest import fold_column
from dig.interests.phrases import plain_words

__all__ = ["FEATURES", "TextsOfItems", "interest_features", "read_items", "word_rarity"]

FEATURES = {
    "log_items": "how many items hold the phrase",  # log(1 + items)
    "words": "words of the phrase",
    "characters": "characters of the phrase",
    "has_digit": "a digit in the phrase",
    "confidence": "the miner's confidence",  # 0 where the miner gives none, see the next
    "no_confidence": "the miner gives no confidence",
    "rank": "place in the miner's list",  # within (item, miner, kind), the first is 0
    "in_title": "found in the title",
    "in_description": "found in the description",
    "in_categories": "found in a category",
    "in_caption": "found in the caption",
    "grounded_share": "share of its words found in the item's text",
    "brand_word": "shares a word with the brand",
    "category_word": "shares a word with a category",
    "visual": "seen in the picture",
    "log_text_words": "length of the item's text",  # log(1 + words)
    "log_interests": "how many interests the item has",  # log(1 + interests)
}
"""Columns of :func:`interest_features` with their meaning; none of them is taken from behaviour."""

_FIELDS = ("title", "description", "categories", "caption")
_SHARES = ("grounded_share", "brand_word", "category_word")
_BAR = "|"


class TextsOfItems:
    """The words of every item of a catalogue, read once.

    Args:
        frame: a row an item: ``item_id``; ``title``, ``description``, ``categories``, ``caption``, ``brand`` as
            " word word ", with a bar between texts, so that no phrase is found across two of them.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame.with_columns(pl.concat_str(_FIELDS).alias("all"))

    def of(self, item_ids: pl.Series) -> pl.DataFrame:
        """The texts of the items of interests, a row an interest.

        Raises:
            ValueError: if an item is not in the catalogue.
        """
        wanted = pl.DataFrame({"item_id": item_ids})
        found = wanted.join(self.frame, on="item_id", how="left", maintain_order="left")
        missing = found.filter(pl.col("all").is_null())["item_id"].unique().sort()
        if len(missing):
            raise ValueError(f"{len(missing)} items have interests but no row in the catalogue, for one {missing[0]!r}")
        return found


def read_items(catalogue: pl.DataFrame, captions: Mapping[str, str]) -> TextsOfItems:
    """The words of every item; a column that the catalogue lacks is empty."""
    names = ("item_id", "title", "brand", "categories", "description")
    frame = catalogue.select([name if name in catalogue.columns else pl.lit(None).alias(name) for name in names])
    rows = [
        (
            item_id,
            _padded([title or ""]),
            _padded([description or ""]),
            _padded([name for name in categories or [] if name]),
            _padded([captions.get(item_id) or ""]),
            _padded([brand or ""]),
        )
        for item_id, title, brand, categories, description in frame.iter_rows()
    ]
    return TextsOfItems(
        pl.DataFrame(rows, schema=dict.fromkeys(("item_id", *_FIELDS, "brand"), pl.String), orient="row")
    )


def _padded(texts: list[str]) -> str:
    return f" {f' {_BAR} '.join(' '.join(plain_words(text)) for text in texts)} "


def word_rarity(texts: TextsOfItems, phrases: list[str]) -> np.ndarray:
    """How rare the words of phrases are in the catalogue, ``(phrases, 2)``: mean and highest ``ln((N+1)/(n+1))``.

    n of the N items hold a word; a phrase without any word has 0.
    """
    documents = texts.frame.select(pl.col("all").str.split(" ").list.unique()).explode("all").to_series().value_counts()
    counts = dict(documents.filter(pl.col("all") != "").iter_rows())
    total = log1p(texts.frame.height)
    rarity = [[total - log1p(counts.get(word, 0)) for word in plain_words(phrase)] or [0.0] for phrase in phrases]
    return np.array([(sum(row) / len(row), max(row)) for row in rarity]).reshape(-1, 2)


def interest_features(interests: pl.DataFrame, texts: TextsOfItems) -> np.ndarray:
    """The features of every interest with its item.

    Args:
        interests: :data:`~dig.interests.interest.INTEREST_SCHEMA`.
        texts: of all items, :func:`read_items`.

    Returns:
        float64 ``(interests, features)``, columns as :data:`FEATURES`, no NaN.

    Raises:
        ValueError: if an interest is about an item that the catalogue lacks.
    """
    folded = fold_column(interests["text"])
    distinct = folded.unique()
    words = pl.DataFrame(
        {"phrase": distinct, "words": [plain_words(phrase) for phrase in distinct]},
        schema={"phrase": pl.String, "words": pl.List(pl.String)},
    )
    frame = (
        pl.concat([interests.drop("item_id"), texts.of(interests["item_id"])], how="horizontal")
        .with_columns(folded.alias("phrase"))
        .join(words, on="phrase", how="left", maintain_order="left")
    )
    return (
        pl.concat([frame, _shares(frame)], how="horizontal")
        .select(
            pl.col("item_id").n_unique().over("phrase").log1p().alias("log_items"),
            pl.col("words").list.len(),
            pl.col("phrase").str.len_chars().alias("characters"),
            pl.col("phrase").str.contains(r"\d").alias("has_digit"),
            pl.col("confidence").fill_null(0.0),
            pl.col("confidence").is_null().alias("no_confidence"),
            pl.int_range(pl.len()).over("item_id", "miner", "kind").alias("rank"),
            *(_held(pl.col("words").list.join(" "), field).alias(f"in_{field}") for field in _FIELDS),
            *_SHARES,
            (pl.col("kind") == "visual").alias("visual"),
            pl.col("all").str.count_matches(r"[^\s|]+").log1p().alias("log_text_words"),
            pl.len().over("item_id").log1p().alias("log_interests"),
        )
        .select(pl.col(list(FEATURES)).cast(pl.Float64))
        .to_numpy()
    )


def _held(words: pl.Expr, field: str) -> pl.Expr:
    """Whether a text holds words as whole words; no words at all are found nowhere."""
    return pl.col(field).str.contains(pl.concat_str(pl.lit(" "), words, pl.lit(" ")), literal=True) & (words != "")


def _shares(frame: pl.DataFrame) -> pl.DataFrame:
    """Share of the phrase's words in the item's text, and whether any is one of its brand or its categories."""
    words = pl.when(pl.col("words").list.len() == 0).then(pl.lit([""])).otherwise("words").alias("words")
    texts = frame.select(words, "all", "brand", "categories").with_row_index("row")
    found = (
        texts.explode("words")
        .group_by("row", maintain_order=True)
        .agg(
            _held(pl.col("words"), "all").mean().alias("grounded_share"),
            _held(pl.col("words"), "brand").any().alias("brand_word"),
            _held(pl.col("words"), "categories").any().alias("category_word"),
        )
    )
    return found.select(_SHARES)
