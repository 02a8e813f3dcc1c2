"""Every path as an ordinary sequence behind a copy of its prompt: slower than a tree in one row, and exact for any
causal model.

Trees need a model that takes a mask of any shape and position ids. Recurrent states, ALiBi, sliding windows that a
model computes from places, and heads of more than one layer do not. Here the model is called as it is meant to be:
tokens from the left, no mask, no cache; what stands behind a sequence fills the row and cannot be seen from it.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dig.generation.causal_paths import CausalPathModel
from dig.generation.path_model import PromptState
from dig.generation.tree_paths import without_adapters

__all__ = ["ReplicatedPathModel", "without_cache"]

_TOKENS_AT_ONCE = 2**15
_LOGITS_AT_ONCE = 2**27
"""What a pass without gradients computes before the next begins; bounds the memory."""


@dataclass
class _State(PromptState):
    """Prompts from the left, and what was fed behind them.

    Attributes:
        prompts: (batch, prompt) tokens, each prompt's from place 0 on.
        lengths: (batch,) tokens of each prompt.
        fed: (batch, paths, steps) tokens of each path so far.
    """

    prompts: Tensor
    lengths: Tensor
    fed: Tensor | None = None

    def rewind(self) -> None:
        """Forgets what was fed since the prompts were encoded."""
        self.fed = None


class ReplicatedPathModel(CausalPathModel):
    """The path model of models whose paths cannot share a row.

    Args:
        model: any causal language model, or a peft model around one.
        whole: the model's own logits stand in for its states; for output layers that are more than one matrix.
    """

    lengths = ("max_position_embeddings", "max_seq_len")

    def __init__(self, model: nn.Module, whole: bool = False) -> None:
        super().__init__(model)
        self.whole = whole
        causal = without_adapters(model)
        self._called: Any = causal if whole else self.body
        self._settings = without_cache(self._called)

    def logits(self, hidden: Tensor, vocabulary: Tensor | None = None) -> Tensor:
        """Logits (…, tokens) of states (…, width), over given vocabulary ids or all."""
        if not self.whole:
            return super().logits(hidden, vocabulary)
        return (hidden if vocabulary is None else hidden[..., vocabulary]).float()

    def hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States (rows, length, width) in one differentiable pass, 0 at padding; see `CausalPathModel.hidden`."""
        real = attention_mask > 0
        samples = attention_mask.long() + (int(attention_mask.max()) + 1) * torch.arange(
            len(input_ids), device=input_ids.device
        ).unsqueeze(1)
        sample = samples[real].unique(return_inverse=True)[1]
        place = self.sample_positions(attention_mask)[real]
        tokens = input_ids[real]
        rows = tokens[place == 0].unsqueeze(1).repeat(1, int(place.max()) + 1)
        rows[sample, place] = tokens
        states = self._states(rows)
        hidden = states.new_zeros(*input_ids.shape, states.shape[-1])
        hidden[real] = states[sample, place]
        return hidden

    def encode(self, input_ids: Tensor, attention_mask: Tensor, spare: int = 0) -> PromptState:
        """Reads prompts (batch, prompt), padded on either side."""
        prompts, lengths = _from_the_left(input_ids, attention_mask.bool())
        hidden = self._states(prompts, (lengths - 1).clamp(min=0).unsqueeze(1))[:, 0]
        return _State(hidden, prompts, lengths)

    def feed(self, state: PromptState, tokens: Tensor, parents: Tensor | None, depth: int) -> Tensor:
        """States (batch, paths, width) after one more token of every path; see `PathModel.feed`."""
        if not isinstance(state, _State):
            raise TypeError("a state of another path model")
        fed = tokens.unsqueeze(-1)
        if state.fed is not None and parents is not None:
            before = state.fed.gather(1, parents.unsqueeze(-1).expand(-1, -1, state.fed.shape[2]))
            fed = torch.cat([before, fed], dim=2)
        state.fed = fed
        rows = _behind(state.prompts, state.lengths, fed)
        last = (state.lengths + fed.shape[2] - 1).repeat_interleave(tokens.shape[1]).unsqueeze(1)
        return self._states(rows, last).view(*tokens.shape, -1)

    def run_tree(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """One differentiable pass over prompts and the paths behind them; see `PathModel.run_tree`."""
        batch, paths, steps = tokens.shape
        prompts, lengths = _from_the_left(input_ids, attention_mask.bool())
        ends = (lengths - 1).clamp(min=0).repeat_interleave(paths).unsqueeze(1)
        places = ends + torch.arange(steps + 1, device=ends.device)
        states = self._states(_behind(prompts, lengths, tokens), places).view(batch, paths, steps + 1, -1)
        return states[:, 0, 0], states[:, :, 1:]

    def _states(self, rows: Tensor, places: Tensor | None = None) -> Tensor:
        """States (rows, length, width) of rows (rows, length), or (rows, n, width) at places (rows, n)."""
        at_once = len(rows)
        if not torch.is_grad_enabled():
            at_once = max(1, _TOKENS_AT_ONCE // rows.shape[1])
            if self.whole:
                at_once = max(1, min(at_once, _LOGITS_AT_ONCE // (rows.shape[1] * self.config.vocab_size)))
        parts = []
        for first in range(0, len(rows), at_once):
            part = slice(first, first + at_once)
            output = self._called(input_ids=rows[part], **self._settings)
            states = output.logits if self.whole else output.last_hidden_state
            if places is not None:
                states = states.gather(1, places[part].unsqueeze(-1).expand(-1, -1, states.shape[-1]))
            parts.append(states)
        return torch.cat(parts)


def without_cache(module: Any) -> dict[str, bool]:
    """Arguments that keep a transformers model from filling a cache."""
    return {"use_cache": False} if "use_cache" in inspect.signature(module.forward).parameters else {}


def _from_the_left(input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Prompts (batch, prompt) with their real tokens first, and (batch,) how many these are; each fills its row with a
    token of its own, as padding has a meaning of its own in some models."""
    order = mask.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    prompts, mask = input_ids.gather(1, order), mask.gather(1, order)
    return torch.where(mask, prompts, prompts[:, :1]), mask.sum(dim=1)


def _behind(prompts: Tensor, lengths: Tensor, paths: Tensor) -> Tensor:
    """Rows (batch · paths, prompt + steps) of paths (batch, paths, steps), each behind its prompt's last token."""
    batch, count, steps = paths.shape
    rows = torch.cat([prompts, prompts[:, :1].expand(-1, steps)], dim=1).unsqueeze(1).repeat(1, count, 1)
    places = lengths.view(batch, 1, 1) + torch.arange(steps, device=paths.device)
    return rows.scatter(2, places.expand(batch, count, steps), paths).flatten(0, 1)
