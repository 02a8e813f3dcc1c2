"""What an answer must be: JSON of a known shape about the item that was asked, or a reason why it is not.

Its form is read first (:mod:`dig.interests.asking.forms`); what it says is then held to a strict shape.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from dig.engine.folding import fold
from dig.interests.asking.forms import (
    behind_thoughts,
    joined_texts,
    json_objects,
    number_of,
    with_known_keys,
    without_thoughts,
)
from dig.interests.reading import BadLineError, ReadingLog, clean_text

__all__ = ["AnswerError", "Caption", "MinedInterest", "MinedInterests", "Verdict", "parse_answer"]

MAX_ANSWER = 200_000
"""Longer answers (characters) are refused unread."""
_SHOWN = 200
_FENCE = re.compile(r"```\w*")
_FILLERS = frozenset(
    {
        "string",
        "text",
        "phrase",
        "interest",
        "interests",
        "deep interest",
        "caption",
        "placeholder",
        "example",
        "none",
        "null",
        "n/a",
        "na",
        "unknown",
        "undefined",
        "tbd",
        "todo",
        "not available",
        "not specified",
        "lorem ipsum",
    }
)
"""Words that stand for an answer and are none."""
_PICTURES = frozenset({"image", "photo", "picture"})
_NOWHERE = Path()


class AnswerError(ValueError):
    """An answer that cannot be used.

    Args:
        reason: one of a few words, to be counted by.
        problem: a sentence for the model that is asked again.
    """

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    ref: str

    @classmethod
    def formed(cls, value: Mapping[str, Any]) -> dict[str, Any]:
        """An object as its fields are written: known keys in any case, numbers that are text as numbers."""
        return with_known_keys(value, cls.model_fields)

    @property
    def said(self) -> list[str]:
        """The texts in which a model says something of its own."""
        return []


def _visible(text: str, limit: int) -> str:
    """One line of visible characters; what comes here is not longer than the limit."""
    if text.isascii() and text.isprintable() and not text.isspace() and text:
        line = " ".join(text.split())
    else:
        try:
            line = clean_text(text, "text", limit, ReadingLog(path=_NOWHERE))
        except BadLineError as error:
            raise ValueError(str(error)) from None
    if not _says_something(line):
        raise PydanticCustomError("nothing_said", "{line} says nothing", {"line": repr(line[:40])})
    return line


def _says_something(line: str) -> bool:
    """Whether a text has a letter and is more than that, unless its script writes words with one; and no stand-in."""
    letter = next((char for char in line if char.isalpha()), None)
    if letter is None or (sum(map(str.isalnum, line)) == 1 and unicodedata.category(letter) != "Lo"):
        return False
    bracketed = line[0] in "<[{$" and line[-1] in ">]}"
    return not bracketed and line.strip(" .\u2026\"'").casefold() not in _FILLERS


class MinedInterest(BaseModel):
    """An interest as a model gives it."""

    model_config = ConfigDict(strict=True, extra="ignore")

    interest: Annotated[str, Field(max_length=200)]
    confidence: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
    evidence: str = ""
    source: Literal["text", "picture"] = "text"

    @field_validator("interest")
    @classmethod
    def _one_line(cls, value: str) -> str:
        return _visible(value, 200)

    @classmethod
    def formed(cls, value: Mapping[str, Any]) -> dict[str, Any]:
        """As :meth:`MinedInterests.formed`, for one interest."""
        fields = with_known_keys(value, cls.model_fields)
        fields["confidence"] = number_of(fields.get("confidence"))
        if isinstance(source := fields.get("source"), str):
            plain = source.strip().casefold()
            fields["source"] = "picture" if plain in _PICTURES else plain
        fields["evidence"] = joined_texts(fields.get("evidence", ""))
        return fields


class MinedInterests(_Answer):
    """The interests of an item, the surest first."""

    interests: Annotated[list[MinedInterest], Field(min_length=1, max_length=50)]

    @classmethod
    def formed(cls, value: Mapping[str, Any]) -> dict[str, Any]:
        """As for every answer; confidences that can only be per cent are shares."""
        fields = super().formed(value)
        interests = fields.get("interests")
        if isinstance(interests, dict):  # one alone, or numbered
            interests = [interests] if "interest" in with_known_keys(interests, {"interest"}) else [*interests.values()]
        if isinstance(interests, list) and all(isinstance(each, dict) for each in interests):
            fields["interests"] = _shares([MinedInterest.formed(each) for each in interests])
        return fields

    @property
    def said(self) -> list[str]:
        """The interests."""
        return [mined.interest for mined in self.interests]


class Caption(_Answer):
    """What a picture shows."""

    caption: Annotated[str, Field(max_length=4000)]

    @field_validator("caption")
    @classmethod
    def _one_line(cls, value: str) -> str:
        return _visible(value, 4000)

    @property
    def said(self) -> list[str]:
        """The caption."""
        return [self.caption]


class Verdict(_Answer):
    """A judge's 0 or 1."""

    label: Annotated[int, Field(ge=0, le=1)]

    @classmethod
    def formed(cls, value: Mapping[str, Any]) -> dict[str, Any]:
        """As for every answer; "0" and "1" are numbers."""
        fields = super().formed(value)
        if isinstance(label := fields.get("label"), str) and label.strip() in ("0", "1"):
            fields["label"] = int(label)
        return fields


def _shares(interests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whole numbers from 0 to 100 of which one is above 10 are per cent; what may be another scale is left alone."""
    given = [each["confidence"] for each in interests]
    whole = all(isinstance(each, (int, float)) and not isinstance(each, bool) and each == each // 1 for each in given)
    if whole and min(given, default=0) >= 0 and 10 < max(given, default=0) <= 100:
        return [each | {"confidence": each["confidence"] / 100.0} for each in interests]
    return interests


Answer = TypeVar("Answer", bound=_Answer)


def parse_answer(text: str, shape: type[Answer], ref: str, examples: Collection[str] = ()) -> Answer:
    """The answer as a validated record, whatever its form.

    Byte order marks, thoughts, prose and code blocks around it, wrappers, other cases of the keys, numbers written as
    text, Python's quotes and commas behind a last entry are form. That it is about the item, holds every field and
    says something is not.

    Args:
        text: what the model wrote.
        shape: what it must be.
        ref: the item's own, which it must repeat.
        examples: folded texts that stand in the prompt as examples; an answer of nothing else was copied from there.

    Raises:
        AnswerError: with a reason: empty, too long, no JSON, broken JSON, wrong shape, another item, nothing said,
            several answers.
    """
    if len(text) > MAX_ANSWER:  # most of which may be thoughts
        text = behind_thoughts(text)
    if len(text) > MAX_ANSWER:
        raise AnswerError("too long", f"the answer has {len(text):,} characters")
    answer = _plain(text, shape, ref) or _read(text, shape, ref)
    if answer.said and all(fold(each) in examples for each in answer.said):
        raise AnswerError("nothing said", "this is the example of the question; answer about the item")
    return answer


def _plain(text: str, shape: type[Answer], ref: str) -> Answer | None:
    """An answer that is the object and nothing else, which takes a tenth of the time; None where it is not."""
    if not text.startswith("{"):
        return None
    try:
        answer = shape.model_validate_json(text)
    except ValidationError:
        return None
    return answer if answer.ref == ref else None


def _read(text: str, shape: type[Answer], ref: str) -> Answer:
    content = without_thoughts(text)
    if not _FENCE.sub("", content).strip():
        raise AnswerError("empty", "the answer is empty")
    failure: AnswerError | None = None
    for objects, problem in json_objects(content):
        answers, error = _validated_all(objects, shape, ref)
        if any(other != answers[0] for other in answers[1:]):
            raise AnswerError("several answers", f"there are {len(answers)} answers that differ; give one")
        if answers:
            return answers[0]
        if problem is not None and (error is None or error.reason == "wrong shape"):
            error = AnswerError("broken JSON", problem[:_SHOWN])  # what is wrong with its parts comes of that
        if failure is None or (error is not None and error.reason != "broken JSON"):
            failure = error
    raise failure or AnswerError("no JSON", "the answer is not a JSON object")


def _validated_all(
    objects: Iterable[Mapping[str, Any]], shape: type[Answer], ref: str
) -> tuple[list[Answer], AnswerError | None]:
    """Those that are answers, and what is wrong with the others: with one of the right shape if there is one."""
    answers: list[Answer] = []
    errors: list[AnswerError] = []
    for each in objects:
        try:
            answers.append(_validated(each, shape, ref))
        except AnswerError as error:
            errors.append(error)
    errors.sort(key=lambda error: error.reason == "wrong shape")
    return answers, errors[0] if errors else None


def _validated(value: Mapping[str, Any], shape: type[Answer], ref: str) -> Answer:
    try:
        answer = shape.model_validate(shape.formed(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        reason = "nothing said" if first["type"] == "nothing_said" else "wrong shape"
        raise AnswerError(reason, f"{_place(first['loc'])}: {first['msg']}"[:_SHOWN]) from None
    if answer.ref.strip().casefold() != ref.casefold():
        raise AnswerError("another item", f"ref must be {ref}")
    return answer


def _place(parts: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in parts) or "the answer"
