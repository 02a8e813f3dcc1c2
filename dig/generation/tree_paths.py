"""What path models of transformers share: the output layer, a cache with room, and paths side by side in one row.

Paths form a tree: a 4-D attention mask lets a token see its prompt and its own ancestors only.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from transformers.cache_utils import Cache, DynamicLayer

from dig.generation.path_model import PathModel, PromptState

__all__ = ["PromptCache", "TreePathModel", "TreeState", "additive_mask", "without_adapters"]


@dataclass
class TreeState(PromptState):
    """Encoded prompts and the tree of what was fed behind them.

    Attributes:
        mask: (batch, prompt) True at real tokens.
        lengths: (batch,) real tokens.
        cache: the model's key-value cache over the prompts and what was fed since.
        ancestors: (batch, paths, fed) which of the tokens fed since a path has passed through.
    """

    mask: Tensor
    lengths: Tensor
    cache: Any
    ancestors: Tensor | None = None

    def rewind(self) -> None:
        """Forgets what was fed since the prompts were encoded."""
        self.cache.rewind(self.mask.shape[1])
        self.ancestors = None


class TreePathModel(PathModel):
    """A model of transformers whose paths share a row.

    Args:
        model: the model, bare or with adapters.
        config: the configuration of what spells.
        body: gives states.
        head: the output layer.
    """

    def __init__(self, model: nn.Module, config: Any, body: Any, head: nn.Module) -> None:
        self.model, self.config, self.body, self.head = model, config, body, head

    def check(self, largest_token: int, attention_mask: Tensor, steps: int) -> None:
        """Refuses a token that the model lacks."""
        rows = self.config.vocab_size
        if largest_token >= rows:
            raise ValueError(f"the catalogue has the token {largest_token}, the model only {rows}")

    def logits(self, hidden: Tensor, vocabulary: Tensor | None = None) -> Tensor:
        """Logits (…, tokens) of hidden states (…, width), over given vocabulary ids or all."""
        if vocabulary is None:
            return self._finish(self.head(hidden).float())
        head: Any = self.head
        if type(head) is nn.Linear or is_parametrized(head, "weight"):  # a quantised layer has no rows to pick
            bias = None if head.bias is None else head.bias[vocabulary]
            return self._finish(F.linear(hidden, head.weight[vocabulary], bias).float())
        return self._finish(self.head(hidden)[..., vocabulary].float())

    def _finish(self, logits: Tensor) -> Tensor:
        """What some architectures do to logits after the output layer: Granite, Cohere, Gemma 2."""
        config = self.config
        logits = logits / (getattr(config, "logits_scaling", None) or 1.0)
        logits = logits * (getattr(config, "logit_scale", None) or 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        return torch.tanh(logits / cap) * cap if cap else logits

    def feed(self, state: PromptState, tokens: Tensor, parents: Tensor | None, depth: int) -> Tensor:
        """States (batch, paths, width) after one more token of every path; see `PathModel.feed`."""
        if not isinstance(state, TreeState):
            raise TypeError("a state of another path model")
        batch, paths = tokens.shape
        itself = torch.eye(paths, dtype=torch.bool, device=tokens.device).expand(batch, paths, paths)
        if state.ancestors is None or parents is None:
            state.ancestors = itself
        else:
            before = state.ancestors.gather(1, parents.unsqueeze(-1).expand(-1, -1, state.ancestors.shape[2]))
            state.ancestors = torch.cat([before, itself], dim=2)
        prompt = state.mask.unsqueeze(1).expand(-1, paths, -1)
        visible = torch.cat([prompt, state.ancestors], dim=2)
        positions = (state.lengths + depth).unsqueeze(1).expand(-1, paths)
        return self._continue(state, tokens, visible, positions)

    @abstractmethod
    def _continue(self, state: Any, tokens: Tensor, visible: Tensor, positions: Tensor) -> Tensor:
        """States (batch, tokens, width) after tokens (batch, tokens) behind what the cache holds."""

    @property
    def attention_dtype(self) -> torch.dtype:
        """The dtype in which attention is computed: autocast's where it is on, else the weights'."""
        weight = next(self.body.parameters())
        if torch.is_autocast_enabled(weight.device.type):
            return torch.get_autocast_dtype(weight.device.type)
        return weight.dtype


def additive_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask (batch, queries, keys) as the 4-D additive mask that transformers passes through."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min).unsqueeze(1)


def without_adapters(model: nn.Module) -> Any:
    """The model itself, of a peft model the one inside. Only who has imported peft can have one: it takes seconds."""
    peft = sys.modules.get("peft")
    return model.get_base_model() if peft is not None and isinstance(model, peft.PeftModel) else model


class PromptCache(Cache):
    """Keys and values of prompts and of the tokens fed behind them, for inference.

    transformers' own dynamic cache joins old and new by a copy of both at every step, which for a token behind a long
    prompt costs more than the token. This one allocates ``spare`` places more than the first tokens take, writes in
    place, and hands out views; past its room it grows by a copy.

    Args:
        spare: tokens per row that will be fed after the prompts.
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
