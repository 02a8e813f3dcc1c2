"""Words and candidate phrases of a text: runs of one to three words without stop words at the ends."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from math import log
from typing import NamedTuple

import polars as pl

from dig.config.schema import MiningConfig
from dig.engine.console import track
from dig.engine.folding import fold
from dig.engine.lazy import sklearn
from dig.interests.interest import mined_frame

__all__ = [
    "MAX_PHRASE_WORDS",
    "UNITS",
    "Words",
    "candidate_phrases",
    "ONLY_DIGITS",
    "clean_factor",
    "plain_words",
    "singular",
    "word_runs",
    "word_set",
    "MINER",
    "CatalogueWords",
    "mine_lexical",
    "phrase_worth",
]


Words = tuple[str, ...]

MAX_PHRASE_WORDS = 3
MAX_TEXT_CHARACTERS = 10_000
"""What a text says after this many characters is not mined."""
MAX_WORD_CHARACTERS = 64
"""Longer words (a language without blanks, a mangled URL) are cut."""


def word_set(text: str) -> frozenset[str]:
    """The words of a list that is written as a text."""
    return frozenset(text.split())


# What every shop writes about every product; as part of a longer phrase they may stay ("made in japan").
SHOP_WORDS = word_set(
    """
    new product products item items brand size sizes pack packs set sets count color colour colors assorted
    amazon com www http https description model number quantity available great best good perfect high quality
    features feature includes including included use used using make makes like just designed ideal provides
    offer offers style contains image picture photo background shown displayed displays featuring visible
    reads text labeled doesn't don't it's isn't can't won't you're you'll that's we're
    """
)
UNITS = word_set(
    """
    oz ounce ounces fl fluid floz ml milliliter l liter liters g gr gram grams mg kg lb lbs pound pounds in
    inch inches ft foot feet yd yds yard yards mm cm m meter meters mil pc pcs piece pieces ct dozen pair
    pairs gal gallon qt quart pt pint w watt watts v volt volts amp amps hz psi deg degree degrees spf x
    """
)

_WORD = re.compile(r"\d+(?:[.,/]\d+)+|[^\W_]+(?:['’\-][^\W_]+)*")
_PLAIN_WORD = re.compile(r"[^\W_]+")
_TAG = re.compile(r"<[^<>]{0,200}>")
_DIGIT = re.compile(r"\d")
WITH_DIGITS = 0.3
"""Factor on a phrase that holds a digit or a unit: often a model number or a measure, at times per interest."""
ONLY_DIGITS = 0.1
"""Factor on a phrase of nothing but numbers and units; the miner takes one only for an item that has nothing else."""


@cache
def stop_words() -> frozenset[str]:
    """Words that no phrase begins or ends with: scikit-learn's list, what every shop writes, and single letters."""
    listed = sklearn.feature_extraction.text.ENGLISH_STOP_WORDS
    return frozenset(listed) | SHOP_WORDS | frozenset("abcdefghijklmnopqrstuvwxyz")


def word_runs(text: str) -> Iterator[list[str]]:
    """The folded words of a text, cut into runs wherever punctuation stands between two words."""
    folded = fold(_TAG.sub(" . ", html.unescape(text[:MAX_TEXT_CHARACTERS]))).replace("’", "'")
    run: list[str] = []
    end = 0
    for match in _WORD.finditer(folded):
        if run and folded[end : match.start()].strip():
            yield run
            run = []
        run.append(match.group()[:MAX_WORD_CHARACTERS])
        end = match.end()
    if run:
        yield run


def candidate_phrases(text: str) -> Iterator[Words]:
    """Every run of one to three words that neither begins nor ends with a stop word, once an occurrence."""
    for run in word_runs(text):
        ignored = stop_words()
        open_ends = [word not in ignored for word in run]
        for start, first in enumerate(open_ends):
            if first:
                for stop in range(start + 1, min(start + MAX_PHRASE_WORDS, len(run)) + 1):
                    if open_ends[stop - 1]:
                        yield tuple(run[start:stop])


def clean_factor(phrase: Words) -> float:
    """1 for a phrase of words, less where digits or units stand in it."""
    measures = sum(1 for word in phrase if word in UNITS or _DIGIT.search(word))
    if measures == 0:
        return 1.0
    return ONLY_DIGITS if measures == len(phrase) else WITH_DIGITS


def plain_words(text: str) -> list[str]:
    """Folded words with hyphens opened and a plural s taken off, for the question whether a text holds a phrase."""
    return [singular(word) for word in _PLAIN_WORD.findall(fold(text[:MAX_TEXT_CHARACTERS]))]


def singular(word: str) -> str:
    """The word without its plural (or possessive) s; a rule of thumb for English."""
    word = word.removesuffix("'s")
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


# The miner that needs no model and no network: key phrases of an item, scored against the whole catalogue.
#
# It is named for what it is (``miner="lexical"``). It finds what a text says in so many words and infers nothing.


MINER = "lexical"
FIELD_WEIGHTS = {"title": 2.0, "categories": 1.5, "description": 1.0, "caption": 1.0}
"""What one occurrence in a field adds to the frequency of a phrase; our own choice (open in the paper)."""
LENGTH_FACTORS = (0.7, 0.9, 1.0)
"""Factors of phrases with one, two and three words that are not stop words: the longer says more."""
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
    fields = ("item_id", "title", "brand", "categories", "description")
    frame = catalogue.select([name if name in catalogue.columns else pl.lit(None).alias(name) for name in fields])
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
    candidates: dict[Words, tuple[float, bool]] = {}
    for name, texts in item.fields:
        weight, visual = FIELD_WEIGHTS[name], name == "caption"
        for text in texts:
            for phrase in candidate_phrases(text):
                frequency, only_seen = candidates.get(phrase, (0.0, visual))
                candidates[phrase] = (frequency + weight, only_seen and visual)
    return candidates


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
