"""The miner that needs no model and no network: key phrases of an item, scored against the whole catalogue.

It is named for what it is (``miner="lexical"``). It finds what a text says in so many words and infers nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import log
from typing import NamedTuple

import polars as pl

from dig.config.schema import MiningConfig
from dig.engine.console import track
from dig.interests.interest import mined_frame
from dig.interests.phrases import ONLY_DIGITS, Words, candidate_phrases, clean_factor, singular, stop_words, word_runs

__all__ = ["MINER", "CatalogueWords", "mine_lexical", "phrase_worth"]

MINER = "lexical"
FIELD_WEIGHTS = {"title": 2.0, "categories": 1.5, "description": 1.0, "caption": 1.0}
"""What one occurrence in a field adds to the frequency of a phrase; our own choice (open in the paper)."""
LENGTH_FACTORS = (0.7, 0.9, 1.0)
"""Factors of phrases with one, two and three words that are no stop words: the longer says more."""
BRIDGE_FACTOR = 0.9
"""Factor on a phrase that needs a stop word ("gentle on sensitive"): it is more often a cut sentence than a name."""
BRAND_SHARE = 0.5
"""A word is a brand's where at least this share of the branded items that hold it carry it in their brand."""
NO_BRANDS = frozenset({"", "unknown", "generic", "none", "n/a", "na", "unbranded", "null"})


class _Item(NamedTuple):
    item_id: str
    brand: Words
    fields: tuple[tuple[str, list[str]], ...]


class CatalogueWords(NamedTuple):
    """What the whole catalogue says about phrases."""

    items: int
    documents: Counter[Words]
    """Items that hold a phrase."""
    brand_words: frozenset[str]
    """Words that stand for a brand rather than for a property."""


def phrase_worth(documents: int, items: int) -> float:
    """Specificity times support of a phrase, in (0, 1]: one-off and ubiquitous phrases are worth little.

    ``4ab / (a+b)²`` with ``a = ln((N+1)/n)`` (the idf) and ``b = ln(1+n)`` (log support) for a phrase found in n of N
    items; it peaks where n is about √N.
    """
    a, b = log((items + 1) / documents), log(1 + documents)
    return 4 * a * b / (a + b) ** 2


_Scored = tuple[float, str, Words, bool]  # score, text, phrase, visual


def _words(text: str) -> Words:
    return tuple(word for run in word_runs(text) for word in run)


def _items(catalogue: pl.DataFrame, captions: Mapping[str, str]) -> Iterator[_Item]:
    wanted = ("item_id", "title", "brand", "categories", "description")
    frame = catalogue.select([name if name in catalogue.columns else pl.lit(None).alias(name) for name in wanted])
    for item_id, title, brand, categories, description in frame.iter_rows():
        brand_words = () if (brand or "").strip().casefold() in NO_BRANDS else _words(brand)
        texts = {
            "title": [title or ""],
            "categories": [name for name in categories or [] if name],
            "description": [description or ""],
            "caption": [captions.get(item_id) or ""],
        }
        yield _Item(item_id, brand_words, tuple(texts.items()))


def _candidates(item: _Item) -> dict[Words, tuple[float, bool]]:
    """phrase → (weighted frequency, whether it comes from the caption alone)."""
    found: dict[Words, tuple[float, bool]] = {}
    for name, texts in item.fields:
        weight, visual = FIELD_WEIGHTS[name], name == "caption"
        for text in texts:
            for phrase in candidate_phrases(text):
                frequency, only_seen = found.get(phrase, (0.0, visual))
                found[phrase] = (frequency + weight, only_seen and visual)
    return found


def _survey(catalogue: pl.DataFrame, captions: Mapping[str, str]) -> CatalogueWords:
    documents: Counter[Words] = Counter()
    branded: Counter[str] = Counter()
    as_brand: Counter[str] = Counter()
    category_words: set[str] = set()
    for item in track(_items(catalogue, captions), "mine: read the catalogue", total=catalogue.height):
        phrases = _candidates(item).keys()
        documents.update(phrases)
        category_words.update(word for name in dict(item.fields)["categories"] for word in _words(name))
        if item.brand:
            words = {phrase[0] for phrase in phrases if len(phrase) == 1}
            branded.update(words)
            as_brand.update(words.intersection(item.brand))
    brand_words = frozenset(
        word for word, count in as_brand.items() if count >= BRAND_SHARE * branded[word] and word not in category_words
    )
    return CatalogueWords(catalogue.height, documents, brand_words)


def _holds(whole: Words, part: Words) -> bool:
    size = len(part)
    return any(whole[start : start + size] == part for start in range(len(whole) - size + 1))


def _is_brand(phrase: Words, brand: Words, brand_words: frozenset[str]) -> bool:
    if not brand_words.isdisjoint(phrase):
        return True
    return bool(brand) and (_holds(phrase, brand) or (len(phrase) > 1 and _holds(brand, phrase)))


def _length_factor(phrase: Words) -> float:
    telling = sum(word not in stop_words() for word in phrase)
    return LENGTH_FACTORS[telling - 1] * (1.0 if telling == len(phrase) else BRIDGE_FACTOR)


def _choose(ranked: list[_Scored], limit: int) -> list[_Scored]:
    """The best phrases, each with a word that no better one says already."""
    chosen: list[_Scored] = []
    said: set[str] = set()
    for entry in ranked:
        words = {singular(word) for word in entry[2]}
        if not words <= said:
            chosen.append(entry)
            said |= words
            if len(chosen) == limit:
                break
    return chosen


def _mine_item(item: _Item, survey: CatalogueWords, config: MiningConfig) -> list[_Scored]:
    most_documents = max(1.0, config.max_document_share * survey.items)
    ranked: list[_Scored] = []
    spare: list[_Scored] = []
    for phrase, (frequency, visual) in _candidates(item).items():
        if _is_brand(phrase, item.brand, survey.brand_words):
            continue
        documents, clean = survey.documents[phrase], clean_factor(phrase)
        score = frequency / (frequency + 1) * phrase_worth(documents, survey.items) * _length_factor(phrase) * clean
        bucket = ranked if documents <= most_documents and clean > ONLY_DIGITS else spare
        bucket.append((score, " ".join(phrase), phrase, visual))

    def order(entry: _Scored) -> tuple[float, str]:
        return -entry[0], entry[1]

    if ranked:
        return _choose(sorted(ranked, key=order), config.max_interests)
    return _choose(sorted(spare, key=order), 1)


def mine_lexical(catalogue: pl.DataFrame, captions: Mapping[str, str], config: MiningConfig) -> pl.DataFrame:
    """Key phrases of every item from its title, category names, description and caption.

    The score of a phrase is a product of factors in (0, 1]: saturated frequency in the item ``f/(f+1)``,
    :func:`phrase_worth` in the catalogue, length, and freedom from digits and units. All of them but the first are the
    catalogue's, so the score compares across items, and it is the confidence as it stands. Brand names are left out;
    phrases found in more than ``config.max_document_share`` of the items or made of numbers and units alone too,
    except for an item that has nothing
    else: it keeps its single best.

    Args:
        catalogue: ``item_id`` and, where known, ``title``, ``brand``, ``categories`` (list of names), ``description``.
        captions: item id → caption of its picture; phrases found there alone become ``visual`` interests.
        config: ``max_interests`` and ``max_document_share``.

    Returns:
        A frame of :data:`~dig.interests.interest.INTEREST_SCHEMA`, in the catalogue's order, the most confident first.
    """
    survey = _survey(catalogue, captions)
    return mined_frame(
        (item.item_id, text, "visual" if visual else "text", score, MINER)
        for item in track(_items(catalogue, captions), "mine: choose phrases", total=catalogue.height)
        for score, text, _, visual in _mine_item(item, survey, config)
    )
