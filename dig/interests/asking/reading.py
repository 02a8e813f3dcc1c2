"""From kept answers to interests and captions, some thousands of items at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import polars as pl

from dig.interests.asking.answers import AnswerError, Caption, MinedInterests
from dig.interests.asking.question import Asker, Question
from dig.interests.asking.store import AnswerStore
from dig.interests.interest import MinedRow, mined_frame, without_twins

__all__ = ["answers_to", "read_captions_of", "read_interests_of"]

_CHUNK = 5000


def read_interests_of(
    asker: Asker, questions: Iterator[Question], store: AnswerStore, missing: Counter[str]
) -> Iterator[pl.DataFrame]:
    """The interests in the answers to the questions, a frame a few thousand items, in order.

    Args:
        asker: who was asked.
        questions: one an item.
        store: the answers.
        missing: counts items without an answer that can be used, by reason.
    """
    for chunk in _chunks(questions):
        rows: list[MinedRow] = []
        for question, answer in answers_to(asker, chunk, store, missing):
            assert isinstance(answer, MinedInterests)  # noqa: S101 - tells the type checker what was asked for
            for mined in answer.interests[: asker.limit]:
                kind = "visual" if mined.source == "picture" else "text"
                rows.append((question.evidence.item_id, mined.interest, kind, mined.confidence, asker.name))
        yield without_twins(mined_frame(rows))


def read_captions_of(
    asker: Asker, questions: Iterator[Question], store: AnswerStore, missing: Counter[str]
) -> dict[str, str]:
    """Item id → caption."""
    captions = {}
    for chunk in _chunks(questions):
        for question, answer in answers_to(asker, chunk, store, missing):
            assert isinstance(answer, Caption)  # noqa: S101 - tells the type checker what was asked for
            captions[question.evidence.item_id] = answer.caption
    return captions


def _chunks(questions: Iterator[Question]) -> Iterator[list[Question]]:
    while chunk := list(islice(questions, _CHUNK)):
        yield chunk


def answers_to(
    asker: Asker, chunk: Iterable[Question], store: AnswerStore, missing: Counter[str]
) -> Iterator[tuple[Question, object]]:
    """The questions with a usable answer, and it; the others are counted by reason."""
    questions = list(chunk)
    found = store.answers([question.key for question in questions])
    lost = []
    for question in questions:
        text = found.get(question.key)
        try:
            if text is not None:
                yield question, question.check(asker, text)
                continue
        except AnswerError:  # kept by a version of dig that asked less of an answer
            missing["an answer of an older form"] += 1
            continue
        lost.append(question.key)
    reasons = {failure.key: failure.reason for failure in store.failures(lost)} if lost else {}
    missing.update(reasons.get(key, "not asked") for key in lost)
