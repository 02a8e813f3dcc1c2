"""The questions that still have to be asked, found by comparing keys with the store, a handful at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice

from dig.interests.asking.outcome import Outcome
from dig.interests.asking.question import Question
from dig.interests.asking.store import AnswerStore

__all__ = ["unanswered"]

_CHUNK = 2000


def unanswered(
    questions: Iterator[Question],
    store: AnswerStore,
    under_way: Collection[bytes],
    outcome: Outcome,
    failures_too: bool = False,
) -> Iterator[Question]:
    """Questions without an answer; items of equal content are asked about once.

    Args:
        questions: all of them.
        store: what is known.
        under_way: keys that are being asked about at this moment.
        outcome: known ones are counted in it; with ``failures_too`` their ``total`` is of the others alone.
        failures_too: ask again what failed for good.
    """
    while chunk := list(islice(questions, _CHUNK)):
        seen = store.known([question.key for question in chunk], failures=not failures_too) | set(under_way)
        for question in chunk:
            if question.key in seen:
                outcome.known += 1
            else:
                seen.add(question.key)
                yield question
