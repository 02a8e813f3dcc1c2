"""The questions that still have to be asked, found by comparing keys with the store, a handful at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice

import numpy as np

from dig.interests.asking.outcome import Outcome
from dig.interests.asking.question import Question
from dig.interests.asking.store import AnswerStore, key_numbers

__all__ = ["unanswered"]

_CHUNK = 200  # few enough that the garbage collector is never called on the way


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
    before = store.snapshot()
    while chunk := list(islice(questions, _CHUNK)):
        fresh = [chunk[row] for row in np.flatnonzero(~_among([question.key for question in chunk], before))]
        outcome.known += len(chunk) - len(fresh)
        if not fresh:
            continue
        seen = store.known([question.key for question in fresh], failures=not failures_too) | set(under_way)
        for question in fresh:
            if question.key in seen:
                outcome.known += 1
            else:
                seen.add(question.key)
                yield question


def _among(keys: list[bytes], known: np.ndarray) -> np.ndarray:
    """(keys,) bool: which are surely among the sorted known ones ``(known, 2)``."""
    if not len(known):
        return np.zeros(len(keys), dtype=bool)
    wanted = key_numbers(keys)
    places = np.minimum(np.searchsorted(known[:, 0], wanted[:, 0]), len(known) - 1)
    return (known[places] == wanted).all(axis=1)  # of keys with one first half the first alone is found
