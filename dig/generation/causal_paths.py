"""Path models of decoder-only transformers: paths as a tree in one row, and the loss of supervised fine-tuning.

Trees need a model that takes a mask of any shape and position ids. Recurrent states, ALiBi, sliding windows that a
model computes from places, and heads of more than one layer do not. For those every path is an ordinary sequence behind
a copy of its prompt (:class:`ReplicatedPathModel`): slower, and exact for any causal model, which is called as it is
meant to be: tokens from the left, no mask, no cache; what stands behind a sequence fills the row and is not seen.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dig.generation.path_model import PromptState, TrainingRows
from dig.generation.tree_paths import PromptCache, TreePathModel, TreeState, additive_mask, without_adapters
from dig.generation.vocabulary import SidVocabulary

__all__ = [
    "CausalPathModel",
    "next_token_loss",
    "prompt_positions",
    "ReplicatedPathModel",
    "without_cache",
]


def prompt_positions(mask: Tensor) -> Tensor:
    """Position ids (batch, prompt) that count real tokens, for padding on either side."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


class CausalPathModel(TreePathModel):
    """Wraps a causal language model, bare or with adapters.

    Args:
        model: any decoder-only transformers model, or a peft model around one.
        compiled: backend of ``torch.compile`` for all but the output layer, such as ``inductor``; None leaves it out.

    Attributes:
        lengths: configuration keys that bound a sequence. Beyond windows attention forgets, which the masks of trees
            do not.
    """

    lengths: tuple[str, ...] = ("max_position_embeddings", "sliding_window", "attention_chunk_size")

    def __init__(self, model: nn.Module, compiled: str | None = None) -> None:
        causal = without_adapters(model)
        body = causal.base_model
        if compiled is not None:
            body = torch.compile(body, backend=compiled, dynamic=True)
        super().__init__(model, causal.config.get_text_config(), body, causal.get_output_embeddings())

    @property
    def context(self) -> int | None:
        """Tokens that the model can read at once; None for no limit."""
        return min((limit for name in self.lengths if (limit := getattr(self.config, name, None))), default=None)

    def check(self, largest_token: int, attention_mask: Tensor, steps: int) -> None:
        """Refuses a token that the model lacks, and prompts beyond its positions or its window."""
        super().check(largest_token, attention_mask, steps)
        allowed = self.context
        if allowed is None or attention_mask.shape[1] + steps <= allowed:
            return
        longest = int((attention_mask > 0).sum(dim=1).max())
        if longest + steps > allowed:
            name = next(name for name in self.lengths if getattr(self.config, name, None) == allowed)
            raise ValueError(
                f"a prompt of {longest} tokens and {steps} behind it are more than the model's {name} of {allowed}; "
                "shorten prompts (prompt.max_history)"
            )

    def hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States (rows, length, width) in one differentiable pass.

        Args:
            input_ids: (rows, length).
            attention_mask: (rows, length) 0 at padding, k at the k-th sample of a row; samples of a row do not see each
                other, and each counts its positions from 0, so that a state is the one the sample has alone.
        """
        if int(attention_mask.max()) <= 1:
            output = self.body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
            return output.last_hidden_state
        place = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        same = attention_mask.unsqueeze(2) == attention_mask.unsqueeze(1)
        visible = same & (place.unsqueeze(1) >= place)
        return self.body(
            input_ids=input_ids,
            attention_mask=additive_mask(visible, self.attention_dtype),
            position_ids=self.sample_positions(attention_mask),
            use_cache=False,
        ).last_hidden_state

    def states_at(self, input_ids: Tensor, attention_mask: Tensor, wanted: Tensor) -> Tensor:
        """States (wanted, width) of some tokens, row by row, in one differentiable pass.

        Args:
            input_ids: (rows, length).
            attention_mask: (rows, length) as of :meth:`hidden`.
            wanted: (rows, length) True where a state is asked for, never at padding.
        """
        return self.hidden(input_ids, attention_mask)[wanted]

    @staticmethod
    def sample_positions(attention_mask: Tensor) -> Tensor:
        """Positions (rows, length) that count each sample of a row from 0; the mask is that of :meth:`hidden`."""
        place = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        begins = F.pad(attention_mask[:, 1:] != attention_mask[:, :-1], (1, 0), value=True)
        return place - (begins * place).cummax(dim=1).values

    def encode(self, input_ids: Tensor, attention_mask: Tensor, spare: int = 0) -> PromptState:
        """Encodes prompts (batch, prompt), padded on either side, and keeps their cache."""
        mask = attention_mask.bool()
        output = self.body(
            input_ids=input_ids,
            attention_mask=attention_mask.long(),
            position_ids=prompt_positions(mask),
            past_key_values=PromptCache(spare),
            use_cache=True,
        )
        last = _last_places(mask)
        hidden = output.last_hidden_state[torch.arange(len(last), device=last.device), last]
        return TreeState(hidden, mask, mask.sum(dim=1), output.past_key_values)

    def _continue(self, state: TreeState, tokens: Tensor, visible: Tensor, positions: Tensor) -> Tensor:
        return self.body(
            input_ids=tokens,
            attention_mask=additive_mask(visible, self.attention_dtype),
            position_ids=positions,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state

    def run_tree(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """One differentiable pass over prompts and the paths behind them; see `PathModel.run_tree`."""
        mask = attention_mask.bool()
        batch, prompt = mask.shape
        _, paths, steps = tokens.shape
        device = mask.device
        causal = torch.ones(prompt, prompt, dtype=torch.bool, device=device).tril()
        among_prompt = causal & (mask.unsqueeze(1) | torch.eye(prompt, dtype=torch.bool, device=device))
        nothing = torch.zeros(batch, prompt, paths * steps, dtype=torch.bool, device=device)
        to_prompt = mask.unsqueeze(1).expand(-1, paths * steps, -1)
        block = torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
        among_paths = torch.block_diag(*[block] * paths).bool().expand(batch, -1, -1)
        visible = torch.cat(
            [torch.cat([among_prompt, nothing], dim=2), torch.cat([to_prompt, among_paths], dim=2)], dim=1
        )
        path_positions = mask.sum(dim=1).view(-1, 1, 1) + torch.arange(steps, device=device).expand(1, paths, -1)
        output = self.body(
            input_ids=torch.cat([input_ids, tokens.reshape(batch, -1)], dim=1),
            attention_mask=additive_mask(visible, self.attention_dtype),
            position_ids=torch.cat([prompt_positions(mask), path_positions.reshape(batch, -1)], dim=1),
            use_cache=False,
        ).last_hidden_state
        after_prompt = output[torch.arange(batch, device=device), _last_places(mask)]
        return after_prompt, output[:, prompt:].reshape(batch, paths, steps, -1)


def _last_places(mask: Tensor) -> Tensor:
    """(batch,) place of each prompt's last token."""
    return torch.where(mask, torch.arange(mask.shape[1], device=mask.device), -1).argmax(dim=1)


def next_token_loss(
    paths: CausalPathModel, batch: TrainingRows, label_smoothing: float = 0.0, levels: SidVocabulary | None = None
) -> Tensor:
    """Cross-entropy of the supervised tokens: the mean over answers of the weighted mean over an answer's tokens.

    So a title of thirty tokens counts as much as an item of three. With one task and Semantic IDs of one length this
    is the plain mean over tokens. The output layer is computed at supervised positions only: with a large vocabulary
    the logits, not the weights, are what fills the memory.

    Args:
        paths: the model.
        batch: tokens (rows, length), padded on the right, with labels and weights; rows may hold several samples.
        label_smoothing: share of the target's probability that is spread over what it competes with.
        levels: where given, a SID token competes with the codes of its own level only.
    """
    labels, weights = batch.labels[:, 1:], batch.weights[:, 1:]
    supervised = labels != -100
    states = paths.states_at(batch.input_ids, batch.attention_mask, F.pad(supervised, (0, 1)))
    targets = labels[supervised]
    if levels is None:
        losses = F.cross_entropy(paths.logits(states), targets, label_smoothing=label_smoothing, reduction="none")
    else:
        losses = _losses_by_level(paths, states, targets, label_smoothing, levels)
    return (losses * weights[supervised]).sum() / batch.responses


def _losses_by_level(
    paths: CausalPathModel, states: Tensor, targets: Tensor, label_smoothing: float, levels: SidVocabulary
) -> Tensor:
    """(tokens,) losses over the codes of each target's level; over the whole vocabulary for words."""
    losses = torch.zeros(len(targets), device=targets.device)
    words = torch.ones_like(targets, dtype=torch.bool)
    for first, size in zip(levels.first_ids, levels.sizes, strict=True):
        mine = (targets >= first) & (targets < first + size)
        words &= ~mine
        logits = paths.logits(states[mine], torch.arange(first, first + size, device=targets.device))
        of_level = F.cross_entropy(logits, targets[mine] - first, label_smoothing=label_smoothing, reduction="none")
        losses = losses.masked_scatter(mine, of_level)
    if words.any():
        logits = paths.logits(states[words])
        of_words = F.cross_entropy(logits, targets[words], label_smoothing=label_smoothing, reduction="none")
        losses = losses.masked_scatter(words, of_words)
    return losses


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
