"""What the RLDI classifier sees of an interest: its shape, its rank, the item's own words, and its vectors."""

from __future__ import annotations

from collections.abc import Mapping
from math import log1p
from typing import NamedTuple

import numpy as np
import polars as pl

from dig.engine.lazy import scipy, sklearn
from dig.interests.interest import fold_column
from dig.interests.lexical import plain_words
from dig.interests.supervision import PhraseEvidence

__all__ = [
    "FEATURES",
    "TextsOfItems",
    "interest_features",
    "read_items",
    "word_rarity",
    "COMPONENTS",
    "VECTOR_FEATURES",
    "InterestVectors",
    "agreement",
    "cohesion",
    "vector_features",
]


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
        frame: a row per item: ``item_id``; ``title``, ``description``, ``categories``, ``caption``, ``brand`` as
            " word word ", with a bar between texts, so that no phrase is found across two of them.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame.with_columns(pl.concat_str(_FIELDS).alias("all"))

    def of(self, item_ids: pl.Series) -> pl.DataFrame:
        """The texts of the items of interests, a row per interest.
        Raises:
            ValueError: if an item is not in the catalogue.
        """
        items = pl.DataFrame({"item_id": item_ids})
        texts = items.join(self.frame, on="item_id", how="left", maintain_order="left")
        missing = texts.filter(pl.col("all").is_null())["item_id"].unique().sort()
        if len(missing):
            raise ValueError(f"{len(missing)} items have interests but no row in the catalogue, for one {missing[0]!r}")
        return texts


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
    shares = (
        texts.explode("words")
        .group_by("row", maintain_order=True)
        .agg(
            _held(pl.col("words"), "all").mean().alias("grounded_share"),
            _held(pl.col("words"), "brand").any().alias("brand_word"),
            _held(pl.col("words"), "categories").any().alias("category_word"),
        )
    )
    return shares.select(_SHARES)


# What vectors say of an interest: how near it is to its item, how particular to it, and what it is about.


COMPONENTS = 8
"""Principal components of the vectors of phrases, and of items, that are features."""
_SAMPLE = 512
"""Other items whose cosines with a phrase are looked at."""
_PRIOR = 3.0
"""Pairs of items at which half of what a phrase's items have in common is believed."""
_CHUNK = 16_384

VECTOR_FEATURES = {
    "item_cosine": "nearness to the item's text",
    "item_cosine_rank": "nearer to this item than to others",
    "usual_cosine": "nearness to items in general",
    "cohesion": "likeness of the items that hold the phrase",
    "category_agreement": "one category of the items that hold the phrase",
    "brand_agreement": "one brand of the items that hold the phrase",
    **{f"phrase_{number}": f"meaning of the phrase, component {number}" for number in range(1, COMPONENTS + 1)},
    **{f"item_{number}": f"meaning of the item, component {number}" for number in range(1, COMPONENTS + 1)},
}
"""Columns of :func:`vector_features` with their meaning; they know texts, categories and brands, never behaviour."""


class InterestVectors(NamedTuple):
    """Vectors of one text encoder."""

    phrases: list[str]
    """Folded and distinct, all that interests hold."""
    of_phrases: np.ndarray
    """(phrases, dim)"""
    of_items: np.ndarray
    """(items, dim) of the catalogue's items, from their own fields, without interests."""


def vector_features(
    evidence: PhraseEvidence, catalogue: pl.DataFrame, vectors: InterestVectors, seed: int
) -> np.ndarray:
    """The features of every interest that need vectors.

    Args:
        evidence: the phrases and who holds them.
        catalogue: the items, with ``categories`` and ``brand`` where known.
        vectors: every phrase of ``evidence`` among them.
        seed: of the sample of other items.

    Returns:
        float64 ``(interests, features)``, columns as :data:`VECTOR_FEATURES`.

    Raises:
        ValueError: if a phrase has no vector.
    """
    places = {phrase: row for row, phrase in enumerate(vectors.phrases)}
    if missing := [phrase for phrase in evidence.phrases if phrase not in places]:
        raise ValueError(f"{len(missing)} phrases have no vector, for one {missing[0]!r}")
    phrases = unit(vectors.of_phrases[[places[phrase] for phrase in evidence.phrases]])
    items = unit(vectors.of_items)
    brands = catalogue["brand"].to_list() if "brand" in catalogue.columns else []
    paths = catalogue["categories"].to_list() if "categories" in catalogue.columns else []
    of_phrase = np.column_stack(
        [
            cohesion(evidence.membership, items),
            agreement(evidence.membership, [path[-1] if path else None for path in paths]),
            agreement(evidence.membership, brands),
            _components(phrases),
        ]
    )
    shared = of_phrase[evidence.of_interest]
    return np.column_stack([_nearness(evidence, phrases, items, seed), shared, _components(items)[evidence.item_rows]])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors ``(n, dim)`` of length 1, float32; one of length 0 stays."""
    vectors = vectors.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


def _nearness(evidence: PhraseEvidence, phrases: np.ndarray, items: np.ndarray, seed: int) -> np.ndarray:
    """``(interests, 3)``: cosine with the item, share of sampled items that are farther, mean cosine with those."""
    sample = np.random.default_rng(seed).permutation(len(items))[:_SAMPLE]
    result = np.empty((len(evidence.of_interest), 3))
    order = np.argsort(evidence.of_interest, kind="stable")
    for start in range(0, len(order), _CHUNK):
        rows = order[start : start + _CHUNK]
        own, of = np.unique(evidence.of_interest[rows], return_inverse=True)
        others = phrases[own] @ items[sample].T
        cosine = np.einsum("nd,nd->n", phrases[evidence.of_interest[rows]], items[evidence.item_rows[rows]])
        result[rows] = np.column_stack([cosine, (others[of] < cosine[:, None]).mean(axis=1), others.mean(axis=1)[of]])
    return result


def _components(vectors: np.ndarray) -> np.ndarray:
    """``(n, COMPONENTS)`` principal components; what the vectors are too few or too narrow for is 0."""
    result = np.zeros((len(vectors), COMPONENTS))
    count = min(COMPONENTS, *vectors.shape)
    if count and np.ptp(vectors, axis=0).any():
        result[:, :count] = sklearn.decomposition.PCA(count, svd_solver="covariance_eigh").fit_transform(vectors)
    return result


def cohesion(membership: scipy.sparse.csr_matrix, items: np.ndarray) -> np.ndarray:
    """Mean cosine of the pairs of items that hold a phrase, ``(phrases,)``, drawn to the usual one where pairs are few.

    ``Σ_{a<b} cos = (‖Σ x‖² − Σ ‖x‖²)/2``, so that no pair is ever looked at.

    Args:
        membership: 0/1 ``(phrases, items)``.
        items: ``(items, dim)`` unit vectors.
    """
    sums = membership @ items.astype(np.float64)
    own = membership @ (items.astype(np.float64) ** 2).sum(axis=1)
    return _drawn(((sums**2).sum(axis=1) - own) / 2, _pairs(np.asarray(membership.sum(axis=1)).ravel()))


def agreement(membership: scipy.sparse.csr_matrix, names: list[str | None]) -> np.ndarray:
    """Share of the pairs of items that hold a phrase and have the same name, ``(phrases,)``, drawn likewise.

    Args:
        membership: 0/1 ``(phrases, items)``.
        names: of the items, a brand or a category; items without one make no pair, no names at all give 0.
    """
    named = [row for row, name in enumerate(names) if name]
    if not named:
        return np.zeros(membership.shape[0])
    distinct, codes = np.unique([names[row] for row in named], return_inverse=True)
    shape = (membership.shape[1], len(distinct))
    counts = membership @ scipy.sparse.csr_matrix((np.ones(len(named)), (named, codes)), shape=shape)
    together = counts.copy()
    together.data = _pairs(together.data)
    return _drawn(np.asarray(together.sum(axis=1)).ravel(), _pairs(np.asarray(counts.sum(axis=1)).ravel()))


def _pairs(count: np.ndarray) -> np.ndarray:
    return count * (count - 1) / 2


def _drawn(total: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Means over pairs, drawn to the mean of phrases that have as many pairs as the prior counts for."""
    settled = pairs >= _PRIOR
    usual = float((total[settled] / pairs[settled]).mean()) if settled.any() else 0.0
    return (total + _PRIOR * usual) / (pairs + _PRIOR)
