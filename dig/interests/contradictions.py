"""Whether two phrases contradict each other, which text vectors don't tell: "dry skin" and "oily skin" are close."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from dig.interests.phrases import singular, word_set

__all__ = ["OPPOSITES", "contradict"]

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
"""Words that exclude each other, in the form of :func:`~dig.interests.phrases.singular`; a short list of our own."""

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
