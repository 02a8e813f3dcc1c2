"""A question about one item: who is asked, in which words, under which key its answer is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from dig.config.schema import ModelConfig
from dig.interests.asking.answers import Caption, MinedInterests, Verdict, parse_answer
from dig.interests.asking.conversation import Message
from dig.interests.asking.evidence import Evidence
from dig.interests.asking.prompt import Prompt

__all__ = ["Asker", "Question", "SHAPES", "asker_of", "questions_of"]

SHAPES: dict[str, type[MinedInterests] | type[Caption] | type[Verdict]] = {
    "interests": MinedInterests,
    "caption": Caption,
    "judge": Verdict,
}


@dataclass(frozen=True)
class Asker:
    """A model with a prompt: everything that an answer depends on besides the item.

    Attributes:
        name: the model's name in ``mining.models``.
        config: the model.
        prompt: the words.
        purpose: what is asked for: ``interests``, ``caption`` or ``judge``.
        limit: interests asked for at most.
    """

    name: str
    config: ModelConfig
    prompt: Prompt
    purpose: str
    limit: int = 0

    @property
    def identity(self) -> str:
        """What its answers are kept under, readable."""
        return f"{self.config.name} {self.prompt.name} {self.prompt.version}"

    @property
    def origin(self) -> dict[str, Any]:
        """What of the configuration decides an answer; where the model runs and how fast it may be asked does not."""
        return {
            "model": self.config.name,
            "prompt": [self.prompt.name, self.prompt.version],
            "temperature": self.config.temperature,
            "vision": self.config.vision,
            "limit": self.limit,
            "extra": self.config.extra,
        }


class Question(NamedTuple):
    """One item, asked of one model.

    Attributes:
        key: of the answer, 16 bytes.
        evidence: the item.
        interest: the phrase that is judged, empty where none is.
    """

    key: bytes
    evidence: Evidence
    interest: str = ""

    def messages(self, asker: Asker) -> list[Message]:
        """What is said to the model."""
        values = {"ref": self.evidence.ref, "evidence": self.evidence.text, "limit": str(asker.limit)}
        text = asker.prompt.ask(**values, interest=_fenced(self.interest))
        return [Message("system", asker.prompt.system), Message("user", text, self.evidence.picture)]

    def check(self, asker: Asker, text: str) -> Any:
        """The validated answer; raises :class:`AnswerError`."""
        return parse_answer(text, SHAPES[asker.purpose], self.evidence.ref, asker.prompt.examples)


def asker_of(name: str, config: ModelConfig, prompt: Prompt, purpose: str, limit: int = 0) -> Asker:
    """A model with a prompt, the prompt checked for what it wants filled in."""
    prompt.ask(ref="", evidence="", limit="", interest="")
    return Asker(name, config, prompt, purpose, limit)


def questions_of(asker: Asker, items: Iterable[tuple[Evidence, str]]) -> Iterator[Question]:
    """A question an item, with the phrase to judge or "", one at a time."""
    origin = blake2b(json.dumps(asker.origin, sort_keys=True).encode(), digest_size=16).digest()
    for evidence, interest in items:
        content = f"{evidence.text}\0{evidence.picture_hash}\0{interest}".encode("utf-8", "replace")
        yield Question(blake2b(origin + content, digest_size=16).digest(), evidence, interest)


def _fenced(phrase: str) -> str:
    return phrase.replace("<", "\\u003c").replace(">", "\\u003e")
