"""Which interests of an answer an item bears out: what a model made up, repeats or contradicts is dropped and counted.

The form of an answer is judged before it is kept; this is about what it says, and is judged when interests are read
from kept answers, so a change of the rules costs no question. The rules are of words, since a model that made something
up made it up in words that the item does not have: an interest must share the stem of a content word with the item, or
quote words of it as its evidence. Whether a grounded interest is a good one is for RLDI to say.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from dig.engine.folding import fold
from dig.interests.lexical import plain_words, stop_words
from dig.interests.merging import contradict, opposed

if TYPE_CHECKING:
    from dig.interests.asking.answers import MinedInterest
    from dig.interests.asking.question import Evidence

__all__ = ["Dropped", "content_stems", "is_grounded"]

_ENDINGS = re.compile("(.{4,}?)(?:ations?|ings?|ions?|ives?|ness|ers?|ors?|ful|ed|ly|es|y|e)?")
"""A stem of four letters at least, and the most common English endings."""
_QUOTED = 0.5
"""Share of a quote's content words that the item must have."""
_PHRASE = 200
"""Letters of an interest at most; longer texts are items'."""
_LATIN = 0x250
"""Letters from here on are of other scripts than Latin."""


@dataclass
class Dropped:
    """Takes from the interests of an answer those that are none, and counts them.

    Attributes:
        grounded: whether what the item does not bear out is dropped, too.
        counts: dropped interests, by reason.
        total: interests that were looked at.
    """

    grounded: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    total: int = 0

    def kept(
        self, interests: list[MinedInterest], evidence: Evidence, examples: Collection[str] = ()
    ) -> list[MinedInterest]:
        """The interests that stay, in order; of two that repeat or contradict each other the first.

        Args:
            interests: those of one answer.
            evidence: the item.
            examples: folded interests that the prompt shows; one that was copied from there is none of the item.
        """
        kept: list[MinedInterest] = []
        fields = json.loads(evidence.text)
        text = " . ".join(value for value in fields.values() if isinstance(value, str))
        for mined in interests:
            self.total += 1
            copied = fold(mined.interest) in examples
            reason = "copy the prompt" if copied else self._reason(mined, kept, text, evidence)
            if reason is None:
                kept.append(mined)
            else:
                self.counts[reason] += 1
        return kept

    def _reason(self, mined: MinedInterest, kept: list[MinedInterest], text: str, evidence: Evidence) -> str | None:
        phrase = fold(mined.interest)
        stems = content_stems(phrase)
        for other in kept:
            earlier = fold(other.interest)
            if phrase == earlier or (stems and stems == content_stems(earlier)):
                return "repeat another"
            if stems & content_stems(earlier) and contradict(phrase, earlier):
                return "contradict another"
        if not self.grounded or (mined.source == "picture" and evidence.picture is not None):
            return None
        if opposed(phrase, fold(text)):
            return "contradict the item"
        return None if is_grounded(phrase, text, mined.evidence) else "have nothing of the item's words"

    def summary(self) -> str:
        """One line for the screen."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.counts.most_common())
        return f"{self.counts.total():,} of {self.total:,} interests are dropped ({reasons})"


def is_grounded(phrase: str, text: str, quote: str = "") -> bool:
    """Whether a phrase shares the stem of a content word with an item's text, or a quote of that text stands for it.

    Words of different scripts cannot be compared, so a Latin phrase about an item in Chinese is taken as it is.

    Args:
        phrase: the interest.
        text: the item's own words.
        quote: what the interest rests on, as the model says; of its content words the item must have half.
    """
    if _foreign(phrase) != _foreign(text):
        return True
    of_item = content_stems(text)
    if content_stems(phrase) & of_item:
        return True
    quoted = content_stems(quote)
    return bool(quoted) and bool(content_stems(phrase)) and len(quoted & of_item) >= _QUOTED * len(quoted)


def content_stems(text: str) -> frozenset[str]:
    """The stems of a text's words without stop words; of scripts without spaces between words pairs of letters."""
    return (_stems_of_phrase if len(text) <= _PHRASE else _stems_of_item)(text)


def _stems(text: str) -> frozenset[str]:
    stems: set[str] = set()
    for word in plain_words(text):
        if word in stop_words():
            continue
        if ord(word[0]) >= _LATIN and word[0].upper() == word[0].lower():  # scripts without capitals
            stems |= {word[place : place + 2] for place in range(max(len(word) - 1, 1))}
        else:
            stems.add(_stem(word))
    return frozenset(stems)


_stems_of_phrase = lru_cache(maxsize=1 << 14)(_stems)
_stems_of_item = lru_cache(maxsize=64)(_stems)  # some 70 KB each, wanted for the interests of one item


def _stem(word: str) -> str:
    """The word without its ending, a rule of thumb: "commuters" and "commuting" are one.

    Words with other letters than English has are of languages that inflect more: two letters at most are their ending.
    """
    if not word.isascii():
        return word[: max(3, len(word) - 2)]
    stem = _ENDINGS.fullmatch(word)
    return word if stem is None else stem[1]


def _foreign(text: str) -> bool:
    """Whether most letters are of other scripts than Latin."""
    letters = [char for char in text if char.isalpha()]
    return 2 * sum(ord(char) >= _LATIN for char in letters) > len(letters)
