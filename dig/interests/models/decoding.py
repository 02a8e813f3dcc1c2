"""Writes the answers of a batch: the shared beginning of the prompts is read once, rows that end leave the batch.

transformers' ``generate`` reads the instruction and the examples, which all prompts share, once per row; keeps rows
that have ended until the last one has; and asks the model for tokens that a schema leaves no choice about. This loop
does none of that, and gives the same tokens where nothing is held and nothing is sampled. Scores are computed for the
last place alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from dig.generation.tree_paths import PromptCache
from dig.interests.models.held import Grammar, mask_logits

__all__ = ["Decoder", "Written", "runs"]

_SPARE = 96
"""Tokens of an answer for which the cache has room from the start; past them it grows by a copy."""
_WORTH = 16
"""A prefix is read again where the prompts share at least this many tokens more than the one that is kept."""
_CROWDED = 0.75
"""Rows that have ended are taken out of the cache, by a copy, where at most this share of it is still at work."""


class Written(NamedTuple):
    """An answer."""

    row: int
    tokens: list[int]
    """Without a token that ends it."""
    count: int
    """Tokens of the answer, the one that ends it included."""
    cut: bool
    """Whether it met the limit of its length."""


def runs(model: Any) -> bool:
    """Whether the loop can run a model: full attention in every layer, places of tokens that can be told."""
    if not {"position_ids", "past_key_values", "logits_to_keep"} <= signature(model.forward).parameters.keys():
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) is DynamicLayer for layer in layers)


@dataclass
class _Row:
    """An answer in the making."""

    row: int
    prompt: list[int]
    grammar: Grammar | None
    tokens: list[int] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)
    """Tokens of the answer that the model has yet to read."""
    length: int = 0
    """Tokens of prompt and answer that it has read."""

    def take(self, token: int) -> None:
        """Adds a token, and those that the schema forces behind it."""
        new = [token]
        if self.grammar is not None:
            self.grammar.take(new)
            if forced := self.grammar.forced():
                self.grammar.take(forced)
                new += forced
        self.tokens += new
        self.unread += new


class Decoder:
    """Decodes batches with one model, and keeps the states of the prompts' shared prefix from batch to batch.

    Args:
        model: a causal language model in evaluation mode, for which :func:`runs` holds.
        ends: tokens that end an answer.
        limit: tokens per answer.
        temperature: of the sampling; 0 takes the likeliest token.
    """

    def __init__(self, model: Any, ends: set[int], limit: int, temperature: float = 0.0) -> None:
        self._model, self._ends, self._limit, self._temperature = model, ends, limit, temperature
        self._device = next(model.parameters()).device
        self._prefix: list[int] = []
        self._states: list[tuple[Tensor, Tensor]] = []

    @torch.inference_mode()
    def answers(self, prompts: Sequence[list[int]], grammars: Sequence[Grammar | None]) -> Iterator[Written]:
        """The answers as they end.

        Args:
            prompts: token ids, at least one each.
            grammars: what each is held to; moved on.
        """
        rows = [
            _Row(row, list(prompt), grammar)
            for row, (prompt, grammar) in enumerate(zip(prompts, grammars, strict=True))
        ]
        for row in rows:
            if row.grammar is not None and (forced := row.grammar.forced()):
                row.grammar.take(forced)
                row.tokens += forced
        batch = _Batch(self._model, self._device, rows, self._shared([row.prompt for row in rows]))
        logits = batch.begin(self._prefix, self._states)
        while True:
            working = batch.working
            for row, token in zip(working, self._choose(logits[batch.places], working), strict=True):
                row.take(token)
            ended = [written for row in working if (written := self._ended(row)) is not None]
            yield from ended
            batch.leave({written.row for written in ended})
            if not batch.working:
                return
            logits = batch.step()

    def _choose(self, logits: Tensor, rows: Sequence[_Row]) -> list[int]:
        scores = mask_logits(logits, [row.grammar for row in rows])
        if not self._temperature:
            return [int(token) for token in scores.argmax(dim=-1).tolist()]
        shares = torch.softmax(scores.float() / self._temperature, dim=-1)
        return [int(token) for token in torch.multinomial(shares, 1)[:, 0].tolist()]

    def _ended(self, row: _Row) -> Written | None:
        if row.grammar is None and row.tokens[-1] in self._ends:
            return Written(row.row, row.tokens[:-1], len(row.tokens), False)
        if row.grammar is not None and row.grammar.complete:
            return Written(row.row, row.tokens, len(row.tokens), False)
        if len(row.tokens) >= self._limit:
            return Written(row.row, row.tokens[: self._limit], self._limit, True)
        return None

    def _shared(self, prompts: list[list[int]]) -> int:
        """How many tokens of the kept prefix all prompts begin with; another one is read first where that pays."""
        first, last = min(prompts), max(prompts)  # what these two share, all do
        most = min(len(prompt) for prompt in prompts) - 1  # a token is left to be read
        shared = min(_common(first, last), most)
        length = min(_common(self._prefix, first), shared)
        if shared < length + _WORTH:
            return length
        cache = PromptCache(0)
        tokens = torch.tensor([first[:shared]], device=self._device)
        self._model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self._prefix = first[:shared]
        self._states = [(layer.keys, layer.values) for layer in cache.layers]
        return shared


class _Batch:
    """The rows at work and what the model remembers of them."""

    def __init__(self, model: Any, device: torch.device, rows: list[_Row], shared: int) -> None:
        self._model, self._device, self._shared = model, device, shared
        self.rows = rows
        self._gone: set[int] = set()

    @property
    def working(self) -> list[_Row]:
        """Rows that have not ended."""
        return [row for row in self.rows if row.row not in self._gone]

    @property
    def places(self) -> list[int]:
        """Where these stand in the batch."""
        return [place for place, row in enumerate(self.rows) if row.row not in self._gone]

    def begin(self, prefix: list[int], states: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Reads the prompts and what is forced behind them; the scores ``(rows, vocabulary)`` of what comes next."""
        count, shared = len(self.rows), self._shared
        rest = [[*row.prompt[shared:], *row.tokens] for row in self.rows]
        width = max(map(len, rest))
        self._cache = PromptCache(width + _SPARE)
        for layer, (keys, values) in enumerate(states if shared else ()):
            each = (keys[:, :, :shared].expand(count, -1, -1, -1), values[:, :, :shared].expand(count, -1, -1, -1))
            self._cache.update(*each, layer)
        self._mask = torch.ones(count, shared, dtype=torch.long, device=self._device)
        for row in self.rows:
            row.length = shared
        return self._read(rest)

    def step(self) -> Tensor:
        """Reads the tokens that are unread."""
        unread = [
            [0] if row.row in self._gone else row.unread for row in self.rows
        ]  # one that has ended reads anything
        for row in self.rows:
            row.unread = []
        return self._read(unread)

    def leave(self, ended: set[int]) -> None:
        """These rows are done; they are taken out of the cache where that is worth a copy."""
        self._gone |= ended
        working = self.working
        if self._gone and 0 < len(working) <= _CROWDED * len(self.rows):
            places = torch.tensor(self.places, device=self._device)
            self._cache.keep(places)
            self._mask = self._mask[places]
            self.rows, self._gone = working, set()

    def _read(self, tokens: list[list[int]]) -> Tensor:
        """Feeds each row its tokens, padded on the left, so that the last place is the last token of every row."""
        width = max(map(len, tokens))
        ids = torch.tensor([[0] * (width - len(each)) + each for each in tokens])
        new = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in tokens])
        begins = torch.tensor([row.length for row in self.rows]).unsqueeze(1)
        places = (begins + new.cumsum(dim=1) - 1).clamp(min=0)
        for row, each in zip(self.rows, tokens, strict=True):
            row.length += len(each)
        self._mask = torch.cat([self._mask, new.to(self._device)], dim=1)
        output = self._model(
            input_ids=ids.to(self._device),
            attention_mask=self._mask,
            position_ids=places.to(self._device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many elements two sequences share at their beginning."""
    least = min(len(first), len(second))
    return next((place for place in range(least) if first[place] != second[place]), least)
