"""What is said to a model and what comes back, whatever the model is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

__all__ = ["Completion", "LocalModel", "Message"]


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
