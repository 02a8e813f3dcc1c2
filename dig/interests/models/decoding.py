"""Writes the answers of a local model, many side by side: every token is computed once and none for nothing.

transformers' ``generate`` reads the instruction and the examples, which all prompts share, once per row; pads every
prompt to the longest; keeps rows that have ended until the last one has; and asks the model for tokens that a schema
leaves no choice about. Here all rows lie in one sequence behind their shared prefix: a mask lets each see the prefix
and itself alone, so nothing is padded, a row that ends makes place for the next prompt at once, and forced tokens are
read together. Where nothing is held and nothing is sampled the tokens are those of ``generate``. Scores are computed
for the last token of each row alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from dig.interests.models.held import Grammar, mask_logits

__all__ = ["Decoder", "Written", "context_of", "runs"]

_ROOM = 1024
"""Places by which the memory of keys and values grows."""
_WORTH = 16
"""A prefix is read anew where the prompts share at least this many tokens more than the one that is kept."""
_PREFIX = -1


class Written(NamedTuple):
    """An answer."""

    row: int
    tokens: list[int]
    """Without a token that ends it."""
    length: int
    """Tokens of the answer, the one that ends it included."""
    cut: bool
    """Whether it met the limit of its length."""


def runs(model: Any) -> bool:
    """Whether the decoder can run a model: it takes places of tokens and a mask, and all its layers attend to all."""
    if not {"position_ids", "past_key_values", "logits_to_keep"} <= signature(model.forward).parameters.keys():
        return False
    if model.config._attn_implementation not in ("sdpa", "eager"):
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) is DynamicLayer for layer in layers)


def context_of(model: Any) -> int | None:
    """Places of tokens that a model knows; None where its configuration does not say."""
    places = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return places if isinstance(places, int) and places > 0 else None


@dataclass
class _Row:
    """An answer in the making."""

    row: int
    grammar: Grammar | None
    unread: list[int]
    """Tokens that the model has yet to read, at first the prompt's."""
    length: int
    """Tokens that it has read, those of the prefix included."""
    prompt: int
    """Tokens of the prompt."""
    tokens: list[int] = field(default_factory=list)

    def force(self) -> None:
        """Adds the tokens that the schema leaves no choice about."""
        if self.grammar is not None and (forced := self.grammar.forced()):
            self.grammar.take(forced)
            self.tokens += forced
            self.unread += forced

    def take(self, token: int) -> None:
        """Adds a token, and those that are forced behind it."""
        if self.grammar is not None:
            self.grammar.take([token])
        self.tokens.append(token)
        self.unread.append(token)
        self.force()


class Decoder:
    """Decodes with one model, and keeps what it read of the prompts' shared prefix from call to call.

    Args:
        model: a causal language model in evaluation mode, for which :func:`runs` holds.
        ends: tokens that end an answer.
        limit: tokens per answer; one that reaches the end of the model's context is cut there, too.
        temperature: of the sampling; 0 takes the likeliest token.
    """

    def __init__(self, model: Any, ends: set[int], limit: int, temperature: float = 0.0) -> None:
        self._model, self._ends, self._limit, self._temperature = model, ends, limit, temperature
        self.context = context_of(model)
        self._memory = _Memory(model)
        self._prefix: list[int] = []

    @torch.inference_mode()
    def answers(
        self, prompts: Sequence[list[int]], grammars: Sequence[Grammar | None], at_once: int
    ) -> Iterator[Written]:
        """The answers as they end.

        Args:
            prompts: token ids, at least one each and fewer than the context has places.
            grammars: what each is held to; moved on.
            at_once: rows that are worked on side by side.
        """
        shared = self._begin(prompts)
        waiting = [
            _Row(row, grammar, list(prompt[shared:]), shared, len(prompt))
            for row, (prompt, grammar) in enumerate(zip(prompts, grammars, strict=True))
        ][::-1]
        working: list[_Row] = []
        while waiting or working:
            scores: list[Tensor] = []
            old = list(working)
            if old:
                scores.append(self._memory.read(old))
            while waiting and len(working) < at_once:  # each by itself, as long as it is
                row = waiting.pop()
                row.force()
                working.append(row)
                scores.append(self._memory.read([row]))
            for row, token in zip(working, self._choose(torch.cat(scores), working), strict=True):
                row.take(token)
            ended = [written for row in working if (written := self._ended(row)) is not None]
            self._memory.forget({written.row for written in ended})
            gone = {written.row for written in ended}
            working = [row for row in working if row.row not in gone]
            yield from ended

    def _choose(self, logits: Tensor, rows: Sequence[_Row]) -> list[int]:
        scores = mask_logits(logits, [row.grammar for row in rows])
        if not self._temperature:
            return [int(token) for token in scores.argmax(dim=-1).tolist()]
        shares = torch.softmax(scores / self._temperature, dim=-1)
        return [int(token) for token in torch.multinomial(shares, 1)[:, 0].tolist()]

    def _ended(self, row: _Row) -> Written | None:
        if row.grammar is None and row.tokens[-1] in self._ends:
            return Written(row.row, row.tokens[:-1], len(row.tokens), False)
        if row.grammar is not None and row.grammar.complete:
            return Written(row.row, row.tokens, len(row.tokens), False)
        room = self._limit if self.context is None else min(self._limit, self.context - row.prompt)
        if len(row.tokens) >= room:
            return Written(row.row, row.tokens[:room], room, True)
        return None

    def _begin(self, prompts: Sequence[list[int]]) -> int:
        """How many tokens of the kept prefix all prompts begin with; another one is read first where that pays."""
        if not prompts:
            return 0
        first, last = min(prompts), max(prompts)  # what these two share, all do
        shared = min(_common(first, last), min(map(len, prompts)) - 1)  # a token is left to be read
        length = min(_common(self._prefix, first), shared)
        if len(prompts) > 1 and shared >= length + _WORTH:
            self._memory.begin(length)
            self._prefix = self._prefix[:length]  # all that is there, should memory not suffice for more
            self._memory.read([_Row(_PREFIX, None, first[length:shared], length, shared)])
            self._prefix = first[:shared]
            return shared
        self._prefix = self._prefix[:length]
        self._memory.begin(length)
        return length


class _Memory:
    """What the model has read: one sequence of keys and values, and whose each place is.

    Args:
        model: the model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._cache = _Places()
        self._owners = torch.empty(0, dtype=torch.long, device=self._device)

    def begin(self, kept: int) -> None:
        """Forgets all rows, and of the prefix what is behind so many tokens."""
        self._cache.keep(torch.arange(kept, device=self._device))
        self._owners = self._owners[:kept]

    def read(self, rows: Sequence[_Row]) -> Tensor:
        """Reads what rows have not read; the scores ``(rows, vocabulary)`` of what comes next, float32."""
        counts = [len(row.unread) for row in rows]
        tokens = [token for row in rows for token in row.unread]
        places = [row.length + place for row in rows for place in range(len(row.unread))]
        owners = torch.tensor([row.row for row in rows], device=self._device)
        owners = owners.repeat_interleave(torch.tensor(counts, device=self._device))
        before = len(self._owners)
        self._owners = torch.cat([self._owners, owners])
        for row in rows:
            row.length, row.unread = row.length + len(row.unread), []
        order = torch.arange(len(self._owners), device=self._device)
        seen = (self._owners == _PREFIX) | (self._owners == owners[:, None])
        seen &= order <= order[before:, None]
        mask = torch.zeros(seen.shape, dtype=self._model.dtype, device=self._device)
        mask.masked_fill_(~seen, torch.finfo(mask.dtype).min)
        output = self._model(
            input_ids=torch.tensor([tokens], device=self._device),
            attention_mask=mask[None, None],
            position_ids=torch.tensor([places], device=self._device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=torch.tensor(counts, device=self._device).cumsum(0) - 1,
        )
        return output.logits[0].float()

    def forget(self, rows: set[int]) -> None:
        """These rows are done; their places are given up where they are a third of all."""
        if rows:
            self._owners[torch.isin(self._owners, torch.tensor(sorted(rows), device=self._device))] = _PREFIX - 1
            kept = (self._owners >= _PREFIX).nonzero()[:, 0]
            if 3 * len(kept) < 2 * len(self._owners):
                self._cache.keep(kept)
                self._owners = self._owners[kept]


class _Places(Cache):
    """Keys and values in one room that grows by whole steps, so that a new token copies no old ones."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=_Layer)

    def keep(self, places: Tensor) -> None:
        """Forgets all places but these."""
        for layer in self.layers:
            layer.keep(places)


class _Layer(DynamicLayer):
    def __init__(self) -> None:
        super().__init__()
        self._length = 0
        self._room: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Writes new states (1, heads, new, dim) behind the old ones and gives all of them."""
        start, self._length = self._length, self._length + key_states.shape[-2]
        self.is_initialized = True
        states = (key_states, value_states)
        if not self._room or self._length > self._room[0].shape[-2]:
            old = self._room
            self._room = [each.new_empty(*each.shape[:-2], self._length + _ROOM, each.shape[-1]) for each in states]
            for room, earlier in zip(self._room, old, strict=False):
                room[..., :start, :] = earlier[..., :start, :]
        for room, new in zip(self._room, states, strict=True):
            room[..., start : self._length, :] = new
        self.keys, self.values = (room[..., : self._length, :] for room in self._room)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Places that are taken."""
        return self._length

    def keep(self, places: Tensor) -> None:
        """Forgets all places but these."""
        for room in self._room:
            room[..., : len(places), :] = room.index_select(-2, places)
        self._length = len(places)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many elements two sequences share at their beginning."""
    least = min(len(first), len(second))
    return next((place for place in range(least) if first[place] != second[place]), least)
