"""A key-value cache with room behind the prompts: what is fed later is written there, and the prompts never move."""

from __future__ import annotations

from functools import partial

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

__all__ = ["PromptCache"]


class PromptCache(Cache):
    """Keys and values of prompts and of the tokens fed behind them, for inference.

    transformers' own dynamic cache joins old and new by a copy of both at every step, which for a token behind a long
    prompt costs more than the token. This one allocates ``spare`` places more than the first tokens take, writes in
    place, and hands out views; past its room it grows by a copy.

    Args:
        spare: tokens a row that will be fed after the prompts.
    """

    def __init__(self, spare: int) -> None:
        super().__init__(layer_class_to_replicate=partial(_Layer, spare))

    def rewind(self, length: int) -> None:
        """Forgets what was fed after the first ``length`` tokens."""
        for layer in self.layers:
            layer.length = length


class _Layer(DynamicLayer):
    def __init__(self, spare: int = 0) -> None:
        super().__init__()
        self.spare = spare
        self.length = 0
        self._room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Writes new states (batch, heads, new, dim) behind the old ones and gives all of them."""
        start, self.length = self.length, self.length + key_states.shape[-2]
        new = (key_states, value_states)
        if self._room is None:
            self._room = (self._grown(None, key_states), self._grown(None, value_states))
            self.is_initialized = True
        elif self.length > self._room[0].shape[-2]:
            self._room = (self._grown(self._room[0], key_states), self._grown(self._room[1], value_states))
        for room, states in zip(self._room, new, strict=True):
            room[..., start : self.length, :] = states
        self.keys, self.values = (room[..., : self.length, :] for room in self._room)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Tokens so far."""
        return self.length

    def _grown(self, old: Tensor | None, states: Tensor) -> Tensor:
        room = states.new_empty(*states.shape[:-2], self.length + self.spare, states.shape[-1])
        if old is not None:
            room[..., : old.shape[-2], :] = old
        return room
