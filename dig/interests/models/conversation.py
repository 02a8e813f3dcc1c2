"""What models are told and answer: messages, completions, and a model of one's own; estimates of their tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from dig.config.schema import ModelConfig

__all__ = ["Completion", "LocalModel", "Message", "probable_tokens", "written_tokens"]

_BYTES_A_TOKEN = 4.0


class Message(NamedTuple):
    """A turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str
    picture: Path | None = None
    """Goes before the text; only in a user's turn, and only for a model that sees."""


class Completion(NamedTuple):
    """An answer as the model wrote it; ``note`` is "cut short" at the token limit, "refused", or "no UTF-8"."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    note: str = ""
    estimated: bool = False
    """Whether the tokens are an estimate, since the endpoint does not count them."""


class LocalModel(Protocol):
    """A model in this process, asked in batches."""

    def complete(self, conversations: Sequence[Sequence[Message]]) -> list[Completion]:
        """An answer to each conversation, in order."""
        ...


def probable_tokens(config: ModelConfig, messages: list[Message]) -> float:
    """An estimate of the tokens of the messages."""
    pictures = sum(message.picture is not None for message in messages)
    size = sum(len(message.text.encode("utf-8", "replace")) for message in messages)
    return size / _BYTES_A_TOKEN + pictures * config.picture_tokens


def written_tokens(text: str) -> int:
    """An estimate of the tokens of an answer."""
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_A_TOKEN)
