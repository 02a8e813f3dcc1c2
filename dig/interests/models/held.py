"""Holds a local model to a JSON schema, token by token: which tokens may come next, and which must.

llguidance does the work. It has no dependencies, reads a schema in a millisecond (every item has one of its own, for
its ``ref``), refuses by name what it cannot hold, and tells the tokens that must come as the tokenizer writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import llguidance
import llguidance.hf
import torch
from llguidance.torch import fill_next_token_bitmask
from torch import Tensor
from transformers import LogitsProcessor

from dig.config.errors import UserError
from dig.engine.console import printable

__all__ = ["Grammar", "GrammarProcessor", "Holder", "mask_logits"]

_REASON = 300
_BITS = 32
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""The white space of ``json.dumps``, as in the prompts' examples, and no other."""


class Holder:
    """Makes the grammars of one tokenizer.

    Args:
        name: the model's, for errors.
        tokenizer: a fast tokenizer of transformers.
        vocabulary: how many scores the model gives per token; ids behind the tokenizer's own are never allowed.

    Raises:
        UserError: the tokenizer's tokens cannot be read as bytes, so nothing can be held.
    """

    def __init__(self, name: str, tokenizer: Any, vocabulary: int) -> None:
        self._name = name
        try:
            self._tokens = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary)
        except (ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise UserError(
                f"mining model {name}: its tokenizer does not tell its tokens' bytes, so it cannot be held to a schema "
                f"({printable(str(error), _REASON)}); set format: none"
            ) from None

    def grammar(self, schema: Mapping[str, Any]) -> Grammar:
        """A grammar at its beginning.

        Raises:
            UserError: the schema has something that cannot be held.
        """
        text = json.dumps({**schema, "x-guidance": _COMPACT})
        matcher = llguidance.LLMatcher(self._tokens, llguidance.LLMatcher.grammar_from_json_schema(text))
        if problem := matcher.get_error():
            raise UserError(
                f"mining model {self._name}: the schema cannot be held ({printable(problem, _REASON)}); "
                "set format: json_object or none"
            )
        return Grammar(matcher)


class Grammar:
    """Where one answer stands in its schema."""

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        self._matcher = matcher

    @property
    def complete(self) -> bool:
        """Whether the answer is whole; a JSON object has nothing behind its last brace."""
        return bool(self._matcher.is_accepting())

    def forced(self) -> list[int]:
        """The tokens that must come now, whatever the model says; maybe none."""
        return [] if self.complete else list(self._matcher.compute_ff_tokens())

    def take(self, tokens: Sequence[int]) -> None:
        """The answer goes on with these.

        Raises:
            ValueError: one of them was not allowed.
        """
        if not self._matcher.consume_tokens(list(tokens)):
            raise ValueError(f"tokens {list(tokens)} do not fit the schema: {self._matcher.get_error()}")

    def fill(self, bitmask: Tensor, row: int) -> None:
        """Writes the allowed tokens into a row of a bitmask ``(rows, vocabulary / 32)``, int32 on the CPU."""
        fill_next_token_bitmask(self._matcher, bitmask, row)


def mask_logits(logits: Tensor, grammars: Sequence[Grammar | None]) -> Tensor:
    """Scores ``(rows, vocabulary)`` with minus infinity at what a row's grammar does not allow."""
    if not any(grammars):
        return logits
    words = -(-logits.shape[1] // _BITS)
    bitmask = torch.full((len(grammars), words), -1, dtype=torch.int32)
    for row, grammar in enumerate(grammars):
        if grammar is not None:
            grammar.fill(bitmask, row)
    shifts = torch.arange(_BITS, dtype=torch.int32, device=logits.device)
    allowed = (bitmask.to(logits.device).unsqueeze(-1) >> shifts & 1).flatten(1)[:, : logits.shape[1]]
    return logits.masked_fill(allowed == 0, float("-inf"))


class GrammarProcessor(LogitsProcessor):
    """Holds transformers' own ``generate``, for models that our own loop does not run.

    Args:
        grammars: one per row of the batch.
        prompt: tokens before the answers, padding included.
        ends: tokens that end an answer.
    """

    def __init__(self, grammars: Sequence[Grammar], prompt: int, ends: set[int]) -> None:
        self._grammars, self._prompt, self._ends = grammars, prompt, sorted(ends)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores with what is not allowed at minus infinity; behind a whole answer only its end is allowed."""
        if input_ids.shape[1] > self._prompt:
            for grammar, token in zip(self._grammars, input_ids[:, -1].tolist(), strict=True):
                if not grammar.complete:
                    grammar.take([token])
        masked = mask_logits(scores, [None if grammar.complete else grammar for grammar in self._grammars])
        for row, grammar in enumerate(self._grammars):
            if grammar.complete:
                masked[row] = float("-inf")
                masked[row, self._ends] = 0.0
        return masked
