"""What an answer must be: strict JSON of a known shape about the item that was asked, or a reason why it is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dig.interests.reading import BadLineError, ReadingLog, clean_text

__all__ = ["AnswerError", "Caption", "MinedInterest", "MinedInterests", "Verdict", "parse_answer"]

MAX_ANSWER = 200_000
"""Longer answers (characters) are refused unread."""
_THINKING = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_CODE_BLOCK = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_SHOWN = 200
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


def _visible(text: str, limit: int) -> str:
    """One line of visible characters; what comes here is not longer than the limit."""
    if text.isascii() and text.isprintable() and not text.isspace() and text:
        return " ".join(text.split())
    try:
        return clean_text(text, "text", limit, ReadingLog(path=_NOWHERE))
    except BadLineError as error:
        raise ValueError(str(error)) from None


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


class MinedInterests(_Answer):
    """The interests of an item, the surest first."""

    interests: Annotated[list[MinedInterest], Field(min_length=1, max_length=50)]


class Caption(_Answer):
    """What a picture shows."""

    caption: Annotated[str, Field(max_length=4000)]

    @field_validator("caption")
    @classmethod
    def _one_line(cls, value: str) -> str:
        return _visible(value, 4000)


class Verdict(_Answer):
    """A judge's 0 or 1."""

    label: Annotated[int, Field(ge=0, le=1)]


Answer = TypeVar("Answer", bound=_Answer)


def parse_answer(text: str, shape: type[Answer], ref: str) -> Answer:
    """The answer as a validated record.

    Thinking aloud before it (``<think>…</think>``) and one code block around it are taken off; nothing else is mended.

    Args:
        text: what the model wrote.
        shape: what it must be.
        ref: the item's own, which it must repeat.

    Raises:
        AnswerError: with a reason: empty, too long, no JSON, broken JSON, wrong shape, another item.
    """
    if len(text) > MAX_ANSWER:
        raise AnswerError("too long", f"the answer has {len(text):,} characters")
    content = _THINKING.sub("", text).strip()
    if block := _CODE_BLOCK.match(content):
        content = block[1].strip()
    if not content:
        raise AnswerError("empty", "the answer is empty")
    if not content.startswith(("{", "[")):
        raise AnswerError("no JSON", "the answer is not a JSON object")
    try:
        answer = shape.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise AnswerError("broken JSON", str(first["msg"])[:_SHOWN]) from None
        raise AnswerError("wrong shape", f"{_place(first['loc'])}: {first['msg']}"[:_SHOWN]) from None
    if answer.ref != ref:
        raise AnswerError("another item", f"ref must be {ref}")
    return answer


def _place(parts: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in parts) or "the answer"
