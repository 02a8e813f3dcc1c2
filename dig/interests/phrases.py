"""Words and candidate phrases of a text: runs of one to three words without stop words at the ends."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import cache

from dig.engine.folding import fold
from dig.engine.lazy import sklearn

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
"""Factor on a phrase that holds a digit or a unit: often a model number or a measure, at times an interest."""
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
