"""The one bounded JSON schema that every kind of model is held to, built for one question.

Everything in it has a length: the item's own ``ref`` as a constant, one interest up to the prompt's limit, each a
phrase of a few words, a confidence from a short list. A model that is held to it token by token cannot write white
space, lists or numbers without end, so it always comes to the end of an answer. What it says is judged elsewhere.

Only keywords that xgrammar, llama.cpp and vLLM hold are used, and patterns of plain character classes and counts, since
their grammars know no ``\\p{L}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dig.interests.lexical import stop_words

if TYPE_CHECKING:
    from dig.interests.asking.question import Evidence, PromptedModel

__all__ = ["CONFIDENCES", "answer_schema", "phrase_pattern"]

CONFIDENCES = (0.3, 0.5, 0.7, 0.9)
"""What a model may say of its sureness: numbers with more digits are noise, and 0 and 1 say nothing."""
_WORD_LETTERS = 14
_WORDS = 6
_EVIDENCE = 160
_STEP, _STEPS = 200, 6
_CAPTION = 600
_ASCII = "A-Za-z"
_LETTERS = "A-Za-z\u00c0-\u1fff\u2c00-\u2fef\u3040-\ud7ff\uf900-\ufdff"
"""Ranges that hold the letters of living scripts, without punctuation, symbols and surrogates in between."""
_FEWEST, _MOST = 4, 200
"""Beginnings of phrases in an item's text between which a model can choose."""
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_PIECE = re.compile(r"[\w'-]+|[^\w'\s-]")
_NON_ASCII_LETTER = re.compile(r"[^\W\d_\x00-\x7f]")


def answer_schema(model: PromptedModel, evidence: Evidence) -> dict[str, Any]:
    """The JSON schema of an answer about one item.

    Args:
        model: its purpose and its prompt decide the fields: ``reasoning``, ``evidence`` and ``source`` are a part of an
            interest's schema only where the prompt names them in quotes, and its limit bounds the interests.
        evidence: the item; letters other than ASCII are possible where its own text has some.

    Returns:
        A schema in which every property is required, in the order in which the prompt shows them.
    """
    ref = {"type": "string", "const": evidence.ref}
    if model.purpose == "judge":
        return _object(ref=ref, label={"type": "integer", "enum": [0, 1]})
    if model.purpose == "caption":
        return _object(ref=ref, caption={"type": "string", "minLength": 1, "maxLength": _CAPTION})
    named = model.prompt.names
    pattern = (own_phrases(evidence.text) if model.prompt.own_words else None) or phrase_pattern(evidence.text)
    interest: dict[str, Any] = {"interest": {"type": "string", "pattern": pattern}}
    interest["confidence"] = {"type": "number", "enum": list(CONFIDENCES)}
    if "evidence" in named:
        interest["evidence"] = {"type": "string", "maxLength": _EVIDENCE}
    if "source" in named:
        interest["source"] = {"type": "string", "enum": ["text", "picture"]}
    fields: dict[str, Any] = {"ref": ref}
    if "reasoning" in named:
        step = {"type": "string", "maxLength": _STEP}
        fields["reasoning"] = {"type": "array", "minItems": 1, "maxItems": _STEPS, "items": step}
    most = max(model.limit, 1)
    fields["interests"] = {"type": "array", "minItems": 1, "maxItems": most, "items": _object(**interest)}
    return _object(**fields)


def phrase_pattern(text: str) -> str:
    """The pattern of an interest: up to six words of letters, ``'`` and ``-``, single spaces between them.

    Args:
        text: the item's; where it is written with ASCII letters only, an interest takes two words or more of these.
            Scripts such as Chinese put no spaces between words, so elsewhere one word is enough.
    """
    letters, least = (_LETTERS, 0) if _NON_ASCII_LETTER.search(text) else (_ASCII, 1)
    word = f"[{letters}][{letters}'-]{{0,{_WORD_LETTERS - 1}}}"
    return f"^{word}( {word}){{{least},{_WORDS - 1}}}$"


def own_phrases(text: str) -> str | None:
    """The pattern of the phrases of an item's text: two to six words in a row that begin and end with no stop word.

    The title's and the categories' words join where description and caption have too few phrases. Words of the brand
    end a row, and so do marks and numbers.

    Args:
        text: the item's evidence.

    Returns:
        The pattern, in small letters; None where the text has hardly a phrase, as in scripts without spaces.
    """
    fields = json.loads(text)
    brand = set(_WORD.findall(fields.get("brand", "").lower()))
    phrases: list[str] = []
    for names in (("description", "caption"), ("title", "categories")):
        if len(phrases) < _FEWEST:
            for name in names:
                for run in _runs(fields.get(name, "").lower(), brand):
                    phrases += filter(None, (_phrases(run, start) for start in range(len(run))))
    phrases = list(dict.fromkeys(phrases))[:_MOST]
    return f"^({'|'.join(phrases)})$" if len(phrases) >= _FEWEST else None


def _runs(text: str, brand: set[str]) -> Iterator[list[str]]:
    """Words that follow one another with nothing but spaces between them."""
    run: list[str] = []
    for word in _PIECE.findall(text):
        if _WORD.fullmatch(word) and word not in brand:
            run.append(word)
        else:
            yield run
            run = []
    yield run


def _phrases(run: list[str], start: int) -> str:
    """The phrases of a run that begin at a word, as one pattern; "" where there is none."""
    words, stop = run[start : start + _WORDS], stop_words()
    if words[0] in stop:
        return ""
    ends = [place for place in range(1, len(words)) if words[place] not in stop]
    pattern = ""
    for place, end in reversed(list(enumerate(ends))):
        begin = ends[place - 1] + 1 if place else 0
        part = "".join(f" {word}" for word in words[begin : end + 1]) + pattern
        pattern = f"({part})?" if place else part[1:]
    return pattern


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
