"""A question about one item: its evidence, the prompt around it, who is asked, and the key of its answer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from importlib.resources import files
from json.encoder import encode_basestring as _quoted  # of json, what json.dumps(…, ensure_ascii=False) calls
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import polars as pl
import yaml

from dig.config.documents import check_yaml
from dig.config.errors import UserError, nearest
from dig.config.schema import ModelConfig
from dig.engine.folding import fold
from dig.interests.asking.answers import AnswerError, Caption, MinedInterests, Verdict, parse_answer
from dig.interests.asking.forms import cut_object, without_thoughts
from dig.interests.models.response import Completion, Message
from dig.pictures import picture_content

__all__ = [
    "Evidence",
    "item_evidence",
    "picture_digest",
    "Prompt",
    "load_prompt",
    "prompt_names",
    "PromptedModel",
    "Question",
    "Usable",
    "SHAPES",
    "prompted_model",
    "questions_of",
]


# What a model is shown of an item: its own words as fenced data, and a hash that changes with any of them.


LIMITS = {"title": 500, "brand": 100, "categories": 500, "description": 4000, "caption": 2000}
"""Characters of each field that a model is shown."""
_FIELDS = ("title", "brand", "categories", "description")


class Evidence(NamedTuple):
    """An item as a model is shown it.

    Attributes:
        item_id: the item; the model never sees it.
        text: JSON of its fields, in which no ``<`` or ``>`` stands, so that nothing in it can end the fence.
        picture: the picture's file, None where there is none.
        picture_hash: of its bytes, empty where there is none.
    """

    item_id: str
    text: str
    picture: Path | None = None
    picture_hash: str = ""

    @property
    def ref(self) -> str:
        """Eight letters, a hash of the text, that an answer repeats, so that it cannot be taken for another item's."""
        return blake2b(self.text.encode("utf-8", "replace"), digest_size=4).hexdigest()


def item_evidence(
    catalogue: pl.DataFrame, captions: Mapping[str, str], pictures: Mapping[str, tuple[Path, str]]
) -> Iterator[Evidence]:
    """Every item of the catalogue as evidence, in order, one at a time.

    Args:
        catalogue: ``item_id`` and, where known, ``title``, ``brand``, ``categories``, ``description``.
        captions: item id → caption.
        pictures: item id → file and hash of its picture; empty for a model that does not see.
    """
    present = [name for name in _FIELDS if name in catalogue.columns]
    columns = [catalogue["item_id"]]
    for name in present:
        column = catalogue[name]
        if column.dtype == pl.List(pl.String):
            column = column.list.drop_nulls().list.join(" > ")
        columns.append(column.cast(pl.String).str.slice(0, LIMITS[name]))
    heads = [f'"{name}": ' for name in present]
    for item_id, *values in pl.DataFrame(columns).iter_rows():
        fields = [head + _quoted(value) for head, value in zip(heads, values, strict=True) if value]
        if caption := captions.get(item_id):
            fields.append('"caption": ' + _quoted(caption[: LIMITS["caption"]]))
        text = "{" + ", ".join(fields) + "}"
        if "<" in text or ">" in text:
            text = text.replace("<", "\\u003c").replace(">", "\\u003e")
        yield Evidence(item_id, text, *pictures.get(item_id, (None, "")))


def picture_digest(path: Path) -> str:
    """A hash of what a model is shown of a picture."""
    return blake2b(picture_content(path), digest_size=12).hexdigest()


# Prompts as versioned files: what is said around the evidence of an item, and a hash that changes with any word.


_EXAMPLE = re.compile(r'"(?:interest|caption)"\s*:\s*"([^"$]+)"')
_NAMED = re.compile(r'"(reasoning|evidence|source)"\s*:')
_PARTS = ("system", "user", "repair")


@dataclass(frozen=True)
class Prompt:
    """A prompt with its name and version.

    Attributes:
        name: the file's name without its ending.
        version: a hash of its words; answers to another wording are other answers.
        system: the task.
        user: the question about an item; ``$name`` is filled in.
        repair: asks again after an answer that could not be used; ``$problem`` says why.
        limit: interests that its examples teach to give at most; None leaves ``mining.max_interests`` alone.
        own_words: whether an interest that is held to a schema is a phrase out of the item's own text, as suits models
            that are too small to find other words that fit: they choose.
    """

    name: str
    version: str
    system: str
    user: str
    repair: str
    limit: int | None = None
    own_words: bool = False

    def ask(self, **values: str) -> str:
        """The user's turn; a value is put in as it is, ``$`` in it means nothing.

        Raises:
            UserError: the prompt names something that is not given.
        """
        try:
            return Template(self.user).substitute(values)
        except (KeyError, ValueError) as error:
            raise UserError(
                f"prompt {self.name}: {error} cannot be filled in; there are {', '.join(values)} "
                "(a dollar sign is written $$)",
                exit_code=2,
            ) from None

    @cached_property
    def examples(self) -> frozenset[str]:
        """Folded interests and captions that stand in it to show the form of an answer."""
        return frozenset(map(fold, _EXAMPLE.findall(f"{self.system}\n{self.user}")))

    @cached_property
    def names(self) -> frozenset[str]:
        """Further keys of an answer that it asks for, those of ``reasoning``, ``evidence`` and ``source``."""
        return frozenset(_NAMED.findall(f"{self.system}\n{self.user}"))

    def ask_again(self, problem: str) -> str:
        """The turn after an unusable answer."""
        return Template(self.repair).safe_substitute(problem=problem)


def prompt_names() -> list[str]:
    """The prompts that come with the project."""
    return sorted(path.name.removesuffix(".yaml") for path in files("dig.interests").joinpath("prompts").iterdir())


def load_prompt(name: str, key: str) -> Prompt:
    """One of our prompts by name, or a file of the user's.

    Args:
        name: the name or path.
        key: the configuration key that names it, for errors.

    Raises:
        UserError: there is none, or it is not a prompt.
    """
    own = name.endswith((".yaml", ".yml"))
    if not own and name not in prompt_names():
        hint = nearest(name, prompt_names())
        raise UserError(f"{key}={name}: no such prompt; did you mean {hint}? (a file of your own ends in .yaml)", 2)
    place = Path(name).expanduser() if own else files("dig.interests").joinpath("prompts", f"{name}.yaml")
    try:
        text = place.read_text(encoding="utf-8")
        check_yaml(text, f"{key}={name}", exit_code=2)
        content = yaml.safe_load(text)
    except (OSError, ValueError, OverflowError, yaml.YAMLError) as error:
        raise UserError(f"{key}={name}: cannot be read ({type(error).__name__})", exit_code=2) from None
    if not isinstance(content, dict) or not all(isinstance(content.get(part), str) for part in _PARTS):
        raise UserError(f"{key}={name}: a prompt holds the texts {', '.join(_PARTS)}", exit_code=2)
    limit = content.get("limit")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise UserError(f"{key}={name}: limit is the number of interests at most, not {limit!r}", exit_code=2)
    own_words = content.get("own_words", False)
    if type(own_words) is not bool:
        raise UserError(f"{key}={name}: own_words is true or false, not {own_words!r}", exit_code=2)
    parts = [content[part].strip() for part in _PARTS]
    words = "\0".join([*parts, "own words"] if own_words else parts)  # answers held to other words are other answers
    version = hashlib.blake2b(words.encode(), digest_size=6).hexdigest()
    system, user, repair = parts
    return Prompt(place.name.rpartition(".")[0], version, system, user, repair, limit, own_words)


# A question about one item: who is asked, in which words, under which key its answer is kept.


SHAPES: dict[str, type[MinedInterests] | type[Caption] | type[Verdict]] = {
    "interests": MinedInterests,
    "caption": Caption,
    "judge": Verdict,
}


@dataclass(frozen=True)
class PromptedModel:
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


class Usable(NamedTuple):
    """An answer that can be used.

    Attributes:
        text: what is kept of it.
        answer: it, validated.
        cut: whether it was cut short, so that only its complete interests are kept.
    """

    text: str
    answer: Any
    cut: bool = False


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

    def messages(self, model: PromptedModel) -> list[Message]:
        """What is said to the model."""
        values = {"ref": self.evidence.ref, "evidence": self.evidence.text, "limit": str(model.limit)}
        text = model.prompt.ask(**values, interest=_fenced(self.interest))
        return [Message("system", model.prompt.system), Message("user", text, self.evidence.picture)]

    def check(self, model: PromptedModel, text: str) -> Any:
        """The validated answer; raises :class:`AnswerError`."""
        return parse_answer(text, SHAPES[model.purpose], self.evidence.ref, model.prompt.examples)

    def read(self, model: PromptedModel, completion: Completion) -> Usable:
        """What of an answer can be used: all of it, or the complete interests of one that was cut short.

        Raises:
            AnswerError: nothing.
        """
        if completion.note == "no UTF-8":
            raise AnswerError("no UTF-8", "the answer is not UTF-8")
        if completion.note == "too long":
            raise AnswerError("too long a question", "the question does not fit into the model's context")
        try:
            return Usable(completion.text, self.check(model, completion.text))
        except AnswerError:
            if completion.note == "refused":
                problem = "the answer is a refusal; the item is goods on show, say what it is for"
                raise AnswerError("refused", problem) from None
            if completion.note != "cut short":
                raise
        try:
            part = cut_object(without_thoughts(completion.text)) if model.purpose == "interests" else None
            if part is not None:
                return Usable(part, self.check(model, part), cut=True)
        except AnswerError:
            pass  # what is complete of it cannot be used either, and that it was cut is why
        raise AnswerError("cut short", "the answer was cut at the limit of its length; be shorter")


def prompted_model(name: str, config: ModelConfig, prompt: Prompt, purpose: str, limit: int = 0) -> PromptedModel:
    """A model with a prompt, the prompt checked for what it wants filled in."""
    prompt.ask(ref="", evidence="", limit="", interest="")
    return PromptedModel(name, config, prompt, purpose, min(limit, prompt.limit or limit))


def questions_of(model: PromptedModel, items: Iterable[tuple[Evidence, str]]) -> Iterator[Question]:
    """A question per item, with the phrase to judge or "", one at a time."""
    origin = blake2b(json.dumps(model.origin, sort_keys=True).encode(), digest_size=16).digest()
    for evidence, interest in items:
        content = f"{evidence.text}\0{evidence.picture_hash}\0{interest}".encode("utf-8", "replace")
        yield Question(blake2b(origin + content, digest_size=16).digest(), evidence, interest)


def _fenced(phrase: str) -> str:
    return phrase.replace("<", "\\u003c").replace(">", "\\u003e")
