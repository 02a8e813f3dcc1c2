"""What the RLDI classifier sees of an interest: its shape, its rank, and whether the item's own words bear it out."""

from __future__ import annotations

from collections.abc import Mapping
from math import log1p
from typing import NamedTuple

import numpy as np
import polars as pl

from dig.interests.interest import fold_column
from dig.interests.phrases import plain_words

__all__ = ["FEATURES", "interest_features"]

FEATURES = (
    "log_items",  # log(1 + items that hold the phrase)
    "words",
    "characters",
    "has_digit",
    "confidence",  # 0 where the miner gives none, see the next
    "no_confidence",
    "rank",  # within (item, miner, kind), the first is 0
    "in_title",
    "in_description",
    "in_categories",
    "in_caption",
    "grounded_share",  # share of its words found anywhere in the item's text
    "brand_word",  # shares a word with the item's brand
    "category_word",  # shares a word with the item's categories
    "visual",
    "log_text_words",  # log(1 + words of the item's text)
    "log_interests",  # log(1 + interests of the item)
)
"""Names of the columns of :func:`interest_features`; none of them is taken from behaviour."""


class _ItemText(NamedTuple):
    fields: tuple[str, str, str, str]  # title, description, categories, caption as " word word "
    words: frozenset[str]
    brand: frozenset[str]
    categories: frozenset[str]
    log_words: float


def _padded(texts: list[str]) -> str:
    """Texts as blank-separated words with a bar between texts, so that no phrase is found across two of them."""
    return " " + " | ".join(" ".join(plain_words(text)) for text in texts) + " "


def _item_texts(catalogue: pl.DataFrame, captions: Mapping[str, str], wanted: frozenset[str]) -> dict[str, _ItemText]:
    names = ("item_id", "title", "brand", "categories", "description")
    frame = catalogue.select([name if name in catalogue.columns else pl.lit(None).alias(name) for name in names])
    texts = {}
    for item_id, title, brand, categories, description in frame.iter_rows():
        if item_id not in wanted:
            continue
        names_of_categories = [name for name in categories or [] if name]
        fields = (
            _padded([title or ""]),
            _padded([description or ""]),
            _padded(names_of_categories),
            _padded([captions.get(item_id) or ""]),
        )
        words = [word for text in fields for word in text.split() if word != "|"]
        category_words = frozenset(fields[2].split()) - {"|"}
        texts[item_id] = _ItemText(
            fields, frozenset(words), frozenset(plain_words(brand or "")), category_words, log1p(len(words))
        )
    return texts


def _grounding(item: _ItemText, words: list[str]) -> tuple[float, ...]:
    """in_title … category_word of :data:`FEATURES`; a phrase without any word (only signs) is found nowhere."""
    if not words:
        return (0.0,) * 7
    phrase = f" {' '.join(words)} "
    found = tuple(float(phrase in text) for text in item.fields)
    share = sum(word in item.words for word in words) / len(words)
    return (*found, share, float(not item.brand.isdisjoint(words)), float(not item.categories.isdisjoint(words)))


def interest_features(interests: pl.DataFrame, catalogue: pl.DataFrame, captions: Mapping[str, str]) -> np.ndarray:
    """The features of every interest with its item.

    Args:
        interests: :data:`~dig.interests.interest.INTEREST_SCHEMA`.
        catalogue: the items, as :func:`~dig.interests.lexical.mine_lexical` takes them.
        captions: item id → caption.

    Returns:
        float64 ``(interests, features)``, columns as :data:`FEATURES`, no NaN.

    Raises:
        ValueError: if an interest is about an item that the catalogue lacks.
    """
    items = _item_texts(catalogue, captions, frozenset(interests["item_id"]))
    if missing := set(interests["item_id"]) - items.keys():
        raise ValueError(f"{len(missing)} items have interests but no row in the catalogue, for one {min(missing)!r}")
    folded = fold_column(interests["text"]).alias("phrase")
    words = {phrase: plain_words(phrase) for phrase in folded.unique()}
    pairs = zip(interests["item_id"], folded, strict=True)
    grounding = np.array([_grounding(items[item_id], words[phrase]) for item_id, phrase in pairs]).reshape(-1, 7)
    frame = interests.with_columns(folded).select(
        pl.col("item_id").n_unique().over("phrase").log1p().alias("log_items"),
        pl.col("phrase").replace_strict({key: len(value) for key, value in words.items()}).alias("words"),
        pl.col("phrase").str.len_chars().alias("characters"),
        pl.col("phrase").str.contains(r"\d").alias("has_digit"),
        pl.col("confidence").fill_null(0.0),
        pl.col("confidence").is_null().alias("no_confidence"),
        pl.int_range(pl.len()).over("item_id", "miner", "kind").alias("rank"),
        *(pl.Series(name, grounding[:, column]) for column, name in enumerate(FEATURES[7:14])),
        (pl.col("kind") == "visual").alias("visual"),
        pl.Series("log_text_words", [items[item_id].log_words for item_id in interests["item_id"]], dtype=pl.Float64),
        pl.len().over("item_id").log1p().alias("log_interests"),
    )
    return frame.select(pl.col(FEATURES).cast(pl.Float64)).to_numpy()
