"""One view on any decoder-only transformers model: encode prompts once, then let many paths attend to them.

Paths (beams, rollouts, items to score) are laid side by side in one row as a tree: a 4-D attention mask lets a token
see its prompt and its own ancestors only. So prompts are neither copied nor encoded again for each path.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from dig.generation.cache import PromptCache
from dig.generation.trie import CatalogueTrie

__all__ = ["Decoder", "PromptState", "additive_mask", "prompt_positions", "without_adapters"]


@dataclass
class PromptState:
    """Encoded prompts.

    Attributes:
        hidden: (batch, width) state after each prompt's last token.
        mask: (batch, prompt) True at real tokens.
        lengths: (batch,) real tokens.
        cache: the model's key-value cache over the prompts and what was fed since.
        ancestors: (batch, paths, fed) which of the tokens fed since a path has passed through.
    """

    hidden: Tensor
    mask: Tensor
    lengths: Tensor
    cache: Any
    ancestors: Tensor | None = None

    def rewind(self) -> None:
        """Forgets what was fed since the prompts were encoded."""
        self.cache.rewind(self.mask.shape[1])
        self.ancestors = None


def prompt_positions(mask: Tensor) -> Tensor:
    """Position ids (batch, prompt) that count real tokens, for padding on either side."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def without_adapters(model: nn.Module) -> Any:
    """The model itself, of a peft model the one inside. Only who has imported peft can have one: it takes seconds."""
    peft = sys.modules.get("peft")
    return model.get_base_model() if peft is not None and isinstance(model, peft.PeftModel) else model


class Decoder:
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
        self.viewed = model
        self.config = causal.config.get_text_config()
        body: nn.Module = causal.base_model
        self.body: Any = body if compiled is None else torch.compile(body, backend=compiled, dynamic=True)
        self.head: nn.Module = causal.get_output_embeddings()

    @property
    def context(self) -> int | None:
        """Tokens that the model can read at once; None for no limit."""
        return min((limit for name in self.lengths if (limit := getattr(self.config, name, None))), default=None)

    def check(self, largest_token: int, attention_mask: Tensor, steps: int) -> None:
        """Refuses what the model cannot work with.

        Args:
            largest_token: largest vocabulary id that will be asked for.
            attention_mask: (batch, prompt).
            steps: tokens that will be fed behind a prompt.

        Raises:
            ValueError: the model has no such token, or a prompt is longer than its positions or its window.
        """
        rows = self.config.vocab_size
        if largest_token >= rows:
            raise ValueError(f"the catalogue has the token {largest_token}, the model only {rows}")
        allowed = self.context
        if allowed is None or attention_mask.shape[1] + steps <= allowed:
            return
        longest = int((attention_mask > 0).sum(dim=1).max())
        if longest + steps > allowed:
            name = next(name for name in self.lengths if getattr(self.config, name, None) == allowed)
            raise ValueError(f"a prompt of {longest} tokens and {steps} behind it are more than the model's {name} "
                             f"of {allowed}; shorten prompts (prompt.max_history)")  # fmt: skip

    def logits(self, hidden: Tensor, vocabulary: Tensor | None = None) -> Tensor:
        """Logits (…, tokens) of hidden states (…, width), over given vocabulary ids or all."""
        if vocabulary is None:
            return self._finish(self.head(hidden).float())
        head: Any = self.head
        if type(head) is nn.Linear or is_parametrized(head, "weight"):  # a quantised layer has no rows to pick
            bias = None if head.bias is None else head.bias[vocabulary]
            return self._finish(F.linear(hidden, head.weight[vocabulary], bias).float())
        return self._finish(self.head(hidden)[..., vocabulary].float())

    def child_logits(self, hidden: Tensor, trie: CatalogueTrie, nodes: Tensor, children: Tensor, depth: int) -> Tensor:
        """Logits (…, children) of the next nodes.

        Args:
            hidden: (…, width) states after the tokens that led to ``nodes``.
            trie: the catalogue.
            nodes: (…) nodes at one depth.
            children: (…, children) as `CatalogueTrie.allowed` gives them; what stands where there is no child is of no
                meaning.
            depth: that depth.
        """
        tokens = trie.tokens_of_level(depth)
        return self.logits(hidden, tokens).gather(-1, trie.slots_of(children).clamp_(max=len(tokens) - 1))

    def _finish(self, logits: Tensor) -> Tensor:
        """What some architectures do to logits after the output layer: Granite, Cohere, Gemma 2."""
        config = self.config
        logits = logits / (getattr(config, "logits_scaling", None) or 1.0)
        logits = logits * (getattr(config, "logit_scale", None) or 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        return torch.tanh(logits / cap) * cap if cap else logits

    def hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States (rows, length, width) in one differentiable pass.

        Args:
            input_ids: (rows, length).
            attention_mask: (rows, length) 0 at padding, k at the k-th sample of a row; samples of a row do not see each
                other, and each counts its positions from 0, so that a state is the one the sample has alone.
        """
        if int(attention_mask.max()) <= 1:
            return self.body(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=False
            ).last_hidden_state  # fmt: skip
        place = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        same = attention_mask.unsqueeze(2) == attention_mask.unsqueeze(1)
        visible = same & (place.unsqueeze(1) >= place)
        return self.body(
            input_ids=input_ids,
            attention_mask=additive_mask(visible, self.head_dtype),
            position_ids=self.sample_positions(attention_mask),
            use_cache=False,
        ).last_hidden_state

    @staticmethod
    def sample_positions(attention_mask: Tensor) -> Tensor:
        """Positions (rows, length) that count each sample of a row from 0; the mask is that of :meth:`hidden`."""
        place = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        begins = F.pad(attention_mask[:, 1:] != attention_mask[:, :-1], (1, 0), value=True)
        return place - (begins * place).cummax(dim=1).values

    def encode(self, input_ids: Tensor, attention_mask: Tensor, spare: int = 0) -> PromptState:
        """Encodes prompts (batch, prompt), padded on either side, and keeps their cache.

        Args:
            input_ids: (batch, prompt).
            attention_mask: (batch, prompt).
            spare: tokens a row that will be fed after them.
        """
        mask = attention_mask.bool()
        positions = prompt_positions(mask)
        output = self.body(
            input_ids=input_ids,
            attention_mask=attention_mask.long(),
            position_ids=positions,
            past_key_values=PromptCache(spare),
            use_cache=True,
        )
        last = torch.where(mask, torch.arange(mask.shape[1], device=mask.device), -1).argmax(dim=1)
        hidden = output.last_hidden_state[torch.arange(len(last), device=last.device), last]
        return PromptState(hidden, mask, mask.sum(dim=1), output.past_key_values)

    def feed(self, state: PromptState, tokens: Tensor, parents: Tensor | None, depth: int) -> Tensor:
        """Feeds one token to every path and returns the states (batch, paths, width) after it.

        Args:
            state: the prompts; its cache grows by the tokens fed.
            tokens: (batch, paths) vocabulary ids.
            parents: (batch, paths) path that each path continues; None at the first call.
            depth: tokens of the path already fed, 0 at the first call.
        """
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

    def _continue(self, state: PromptState, tokens: Tensor, visible: Tensor, positions: Tensor) -> Tensor:
        """States (batch, paths, width) after tokens behind what the cache holds."""
        return self.body(
            input_ids=tokens,
            attention_mask=additive_mask(visible, self.head_dtype),
            position_ids=positions,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state

    def run_tree(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """One differentiable pass over prompts and the paths behind them.

        Args:
            input_ids: (batch, prompt) prompts.
            attention_mask: (batch, prompt).
            tokens: (batch, paths, steps) tokens of each path.

        Returns:
            States after the prompt (batch, width) and after each token of each path (batch, paths, steps, width).
        """
        mask = attention_mask.bool()
        batch, prompt = mask.shape
        _, paths, steps = tokens.shape
        device = mask.device
        last = torch.where(mask, torch.arange(prompt, device=device), -1).argmax(dim=1)
        rows = torch.arange(batch, device=device)
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
        positions = torch.cat([prompt_positions(mask), path_positions.reshape(batch, -1)], dim=1)
        output = self.body(
            input_ids=torch.cat([input_ids, tokens.reshape(batch, -1)], dim=1),
            attention_mask=additive_mask(visible, self.head_dtype),
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state
        return output[rows, last], output[:, prompt:].reshape(batch, paths, steps, -1)

    @staticmethod
    def of(model: nn.Module | Decoder) -> Decoder:
        """The view that fits a model, which is compared with the model's own logits once; a view stays as it is.

        Raises:
            ViewError: no view gives the model's own scores.
            ValueError: an encoder-decoder that is not a T5.
        """
        from dig.generation.intrr import IntRR
        from dig.generation.intrr_view import IntRRDecoder
        from dig.generation.view_check import choose_view, confirm_view

        if isinstance(model, Decoder):
            confirm_view(model)
            return model
        if isinstance(model, IntRR):  # a class of dig's own, which is checked when it is loaded
            return IntRRDecoder(model)
        return choose_view(model).make(model)

    @property
    def head_dtype(self) -> torch.dtype:
        """The dtype in which attention is computed: autocast's where it is on, else the weights'."""
        weight = next(self.body.parameters())
        if torch.is_autocast_enabled(weight.device.type):
            return torch.get_autocast_dtype(weight.device.type)
        return weight.dtype


def additive_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask (batch, queries, keys) as the 4-D additive mask that transformers passes through."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min).unsqueeze(1)
