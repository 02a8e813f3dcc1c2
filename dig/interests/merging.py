"""Whether two phrases contradict each other, which text vectors don't tell: "dry skin" and "oily skin" are close."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import polars as pl

from dig.interests.interest import INTEREST_SCHEMA, fold_column
from dig.interests.lexical import singular, stop_words, word_set

__all__ = ["OPPOSITES", "contradict", "Merged", "merge_interests", "opposed"]


_PAIRS = """
dry/oily dry/greasy dry/wet dry/moist hot/cold hot/cool warm/cool warm/cold heated/cooled indoor/outdoor
inside/outside interior/exterior men,man,male,him,boy/women,woman,female,her,girl,lady,ladies boy/girl
day,daytime/night,nighttime,overnight morning/evening light,lightweight/heavy,heavyweight light,bright,pale/dark
kid,child,children,toddler,baby,infant,junior/adult,senior beginner,novice,starter/professional,pro,expert,advanced
thin,fine/thick,coarse thin,slim/wide left/right summer/winter spring/autumn,fall
cheap,budget,affordable,inexpensive/luxury,luxurious,premium,expensive long/short big,large,giant,oversized/small,
mini,tiny,compact,little tall/short high/low soft/hard,firm soft,gentle/harsh,rough smooth/rough matte,matt/glossy,
shiny loose/tight black/white gold/silver sweet/sour,bitter,salty sharp/blunt,dull fast,quick/slow early/late
new/used,vintage modern,contemporary/vintage,retro,antique simple,plain/ornate strong/weak,mild wired/wireless,cordless
manual/automatic,electric front/back,rear upper/lower top/bottom natural/synthetic,artificial real/fake,faux
casual/formal curly,wavy/straight single/double,twin,triple full/half,empty open/closed
dog/cat mother,mom/father,dad bride/groom husband/wife son/daughter
permanent/temporary,removable disposable/reusable rigid,stiff/flexible quiet,silent/loud solo/group alkaline/acidic
"""

OPPOSITES: tuple[tuple[frozenset[str], frozenset[str]], ...] = tuple(
    (frozenset(map(singular, left.split(","))), frozenset(map(singular, right.split(","))))
    for left, right in (pair.split("/") for pair in re.sub(r",\s+", ",", _PAIRS).split())
)
"""Words that exclude each other, in the form of :func:`~dig.interests.lexical.singular`; a short list of our own."""

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*")
_NOT = word_set("not no non never none nor without anti zero cannot less un")
_FREE_OF = frozenset({"of", "from"})
# Words that only look negated.
_PLAIN = word_set(
    """
    stainless wireless cordless seamless timeless endless priceless flawless regardless unless bless boundless
    effortless nonetheless countless limitless fearless united unified unlike antique antiques anticipate antics
    nonsense nonfiction nonprofit
    """
)
_NEGATED = (
    re.compile(r"non.{4,}"),
    re.compile(r"anti.{4,}"),
    re.compile(r"un.{3,}(?:ed|able|ible|ing)"),
    re.compile(r"un(?:safe|natural|healthy|comfortable|even|stable|real|usual|happy|clean|fair|common|known|salted)"),
    re.compile(r".{3,}less"),
    re.compile(r".+n['’]t"),
)
_NUMBERS = {
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
    "twelve": "12",
}


class _Reading(NamedTuple):
    """What of a phrase can contradict another."""

    negated: bool
    numbers: frozenset[str]
    left: frozenset[int]  # pairs of OPPOSITES of which it names the left side alone
    right: frozenset[int]


def contradict(first: str, second: str) -> bool:
    """Whether two phrases, folded (:func:`dig.engine.folding.fold`), cannot mean the same.

    They contradict each other when one is negated and the other is not (an even number of negations is none), when
    both name numbers and not the same ones, or when they stand on different sides of a pair of :data:`OPPOSITES`. A
    phrase that names both sides ("day and night cream") is on none, and one without a number leaves it open.
    """
    if first == second:
        return False
    one, other = _read(first), _read(second)
    if one.negated != other.negated:
        return True
    if one.numbers and other.numbers and one.numbers != other.numbers:
        return True
    return not one.left.isdisjoint(other.right) or not one.right.isdisjoint(other.left)


def opposed(phrase: str, text: str) -> bool:
    """Whether a phrase stands on one side of a pair of :data:`OPPOSITES` and a text, both folded, on the other only.

    "Oily" and "dry" exclude each other only of the same thing, so phrase and text must have a further word in common.
    """
    one, other = _read(phrase), _read_text(text)
    pairs = (one.left & other.right) | (one.right & other.left)
    if not pairs:
        return False
    shared = {singular(token) for token in _TOKEN.findall(phrase)} & {singular(token) for token in _TOKEN.findall(text)}
    return bool(shared - stop_words())


@lru_cache(maxsize=1 << 17)
def _read(phrase: str) -> _Reading:
    tokens = _TOKEN.findall(phrase)
    words = {singular(token) for token in tokens}
    sides = [(not left.isdisjoint(words), not right.isdisjoint(words)) for left, right in OPPOSITES]
    return _Reading(
        sum(_negates(tokens, place) for place in range(len(tokens))) % 2 == 1,
        frozenset(_number(token) for token in tokens if token[0].isdigit() or token in _NUMBERS),
        frozenset(place for place, side in enumerate(sides) if side == (True, False)),
        frozenset(place for place, side in enumerate(sides) if side == (False, True)),
    )


_read_text = lru_cache(maxsize=64)(_read.__wrapped__)  # an item's, wanted for its own interests alone


def _negates(tokens: list[str], place: int) -> bool:
    word = tokens[place]
    if word == "free":  # "oil-free", "free of oil", but not "free shipping"
        return place > 0 or (len(tokens) > 1 and tokens[1] in _FREE_OF)
    if word in _NOT:
        return True
    return word not in _PLAIN and any(form.fullmatch(word) for form in _NEGATED)


def _number(token: str) -> str:
    """One spelling a number: "1,000" is 1000, "0,5" is 0.5, "15.0" is 15, "two" is 2."""
    if token in _NUMBERS:
        return _NUMBERS[token]
    plain = re.sub(r",(?=\d{3}(?:\D|$))", "", token).replace(",", ".")
    try:
        return f"{float(plain):g}"
    except ValueError:  # "1.2.3" is a name
        return plain


# MLIM with several miners: what they found of one item in different words becomes one interest with several votes.
#
# How several models' answers are merged is not published (DeepInterestGR, arXiv 2602.18907); this is our own way.


_CHUNK = 16_384
_ROUNDING = 1e-6
"""What a cosine in float32 may fall short of, so that equal vectors are alike at any similarity."""


class Merged(NamedTuple):
    """What :func:`merge_interests` made of the miners' lists."""

    interests: pl.DataFrame
    """:data:`~dig.interests.interest.INTEREST_SCHEMA`, item after item."""
    joined: int
    """Interests that another one took in."""
    cut: int
    """Interests left out by the limit."""


def merge_interests(
    interests: pl.DataFrame, phrases: list[str], vectors: np.ndarray, similarity: float, limit: int | None = None
) -> Merged:
    """Joins the interests of **different** miners that say the same of one item.

    Two say the same when they are equal once folded, or when the cosine of their vectors reaches ``similarity`` and
    they do not contradict each other (:func:`~dig.interests.merging.contradict`). An interest joins others only
    if it says the same as all of them (complete link); the most confident go first, and of several that it could join
    it takes the most similar. Interests of one miner about one item are never joined.

    A joined interest has the words, miner and label-free rest of its most confident one, ``votes`` = the number of its
    miners, ``miners`` and ``wordings``, and the confidence ``1 − Π (1 − c)`` over those that gave one. Its ``kind`` is
    text if any is. Within an item it stands by votes, then confidence, then rank in its miner's list. Where a single
    miner spoke of an item its list keeps its order. The order in which miners come changes nothing within an item.
    A frame that was merged before is left as it is.

    Args:
        interests: :data:`~dig.interests.interest.INTEREST_SCHEMA`; each miner's list of an item in rank order.
        phrases: every folded text of ``interests``, once.
        vectors: ``(phrases, dim)`` their vectors, of any length.
        similarity: the least cosine.
        limit: interests per item at most; None for no limit.

    Raises:
        ValueError: if a text has no vector.
    """
    if interests.height and interests["miners"].null_count() == 0:
        return _cut(interests, 0, limit)
    rows = _in_order(interests, phrases)
    founders = _join(rows, phrases, _unit(vectors), similarity)
    merged = _aggregate(rows.with_columns(founder=pl.Series(founders, dtype=pl.Int64)))
    return _cut(merged, interests.height - merged.height, limit)


def _in_order(interests: pl.DataFrame, phrases: list[str]) -> pl.DataFrame:
    """The interests, item after item and the most confident first; ties by rank, so that no miner's place counts."""
    codes = fold_column(interests["text"]).replace_strict(
        phrases, np.arange(len(phrases)), default=None, return_dtype=pl.Int64
    )
    rows = interests.with_row_index("place").with_columns(
        codes.alias("phrase"),
        item=pl.col("place").min().over("item_id"),
        rank=pl.int_range(pl.len()).over("item_id", "miner"),
        alone=pl.col("miner").n_unique().over("item_id") == 1,
    )
    if rows["phrase"].null_count():
        text = rows.filter(pl.col("phrase").is_null())["text"][0]
        raise ValueError(f"{rows['phrase'].null_count()} interests have no vector, for one {text!r}")
    return rows.sort("item", "confidence", "rank", "miner", descending=[False, True, False, False], nulls_last=True)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


def _join(rows: pl.DataFrame, phrases: list[str], units: np.ndarray, similarity: float) -> np.ndarray:
    """(rows,) the row that each row joins, itself where it joins none; a row joins none that comes after it."""
    alike = _alike(rows, phrases, units, similarity)
    founders = np.arange(rows.height)
    members: dict[int, list[int]] = {}
    earlier: dict[int, list[int]] = defaultdict(list)
    for first, second in sorted(alike):
        earlier[second].append(first)
    for row in sorted(earlier):
        best, best_value = row, -np.inf
        for founder in dict.fromkeys(int(founders[other]) for other in earlier[row]):
            group = members.get(founder, [founder])
            value = min(alike.get((member, row), -np.inf) for member in group)
            if value > best_value:
                best, best_value = founder, value
        if best != row:
            founders[row] = best
            members.setdefault(best, [best]).append(row)
    return founders


def _alike(
    rows: pl.DataFrame, phrases: list[str], units: np.ndarray, similarity: float
) -> dict[tuple[int, int], float]:
    """Pairs of rows of one item and two miners that say the same, with their cosine; the earlier row first."""
    first, second = _pairs_within_items(rows)
    phrase, miner = rows["phrase"].to_numpy(), rows["miner"].rank("dense").to_numpy()
    apart = miner[first] != miner[second]
    first, second = first[apart], second[apart]
    one, other = phrase[first], phrase[second]
    cosines = np.ones(len(first))
    for start in range(0, len(first), _CHUNK):
        part = slice(start, start + _CHUNK)
        cosines[part] = np.einsum("pd,pd->p", units[one[part]], units[other[part]])
    cosines[one == other] = 1.0
    near = np.flatnonzero((cosines >= similarity - _ROUNDING) | (one == other))
    return {
        (int(first[at]), int(second[at])): float(cosines[at])
        for at in near
        if not contradict(phrases[one[at]], phrases[other[at]])
    }


def _pairs_within_items(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (earlier row, later row) of one item; an item's rows are consecutive."""
    sizes = rows.group_by("item", maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    ends = np.repeat(np.cumsum(sizes), sizes)
    firsts = np.arange(rows.height)
    later = ends - firsts - 1
    first = np.repeat(firsts, later)
    within = np.arange(len(first)) - np.repeat(np.cumsum(later) - later, later)
    return first, first + 1 + within


def _aggregate(rows: pl.DataFrame) -> pl.DataFrame:
    """An interest a founder, with the provenance of all that joined it; items as they came, the best first."""
    merged = rows.group_by("founder", maintain_order=True).agg(
        pl.col("item", "rank", "alone", "item_id", "text", "miner").first(),
        pl.when((pl.col("kind") == "text").any()).then(pl.lit("text")).otherwise(pl.lit("visual")).alias("kind"),
        _together(pl.col("confidence").drop_nulls()),
        pl.len().cast(pl.Int16).alias("votes"),
        pl.col("miner").alias("miners"),
        pl.col("text").alias("wordings"),
        pl.lit(None, pl.Int8).alias("label"),
        pl.lit(None, pl.Float64).alias("score"),
    )
    best = (pl.when("alone").then(None).otherwise(pl.col(name)) for name in ("votes", "confidence"))
    by = ["item", *best, "rank", "miner", "text"]
    order = merged.sort(by, descending=[False, True, True, False, False, False], nulls_last=True)
    return order.select(INTEREST_SCHEMA.names())


def _together(given: pl.Expr) -> pl.Expr:
    """``1 − Π (1 − c)``; one confidence stays as it was to the bit, none stays none."""
    several = (1 - (1 - given).product()).clip(0.0, 1.0)
    return pl.when(given.len() > 1).then(several).otherwise(given.first()).alias("confidence")


def _cut(merged: pl.DataFrame, joined: int, limit: int | None) -> Merged:
    cut = merged if limit is None else merged.filter(pl.int_range(pl.len()).over("item_id") < limit)
    return Merged(cut, joined, merged.height - cut.height)
