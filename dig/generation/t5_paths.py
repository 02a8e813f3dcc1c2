"""The path model of T5, an encoder-decoder: the prompt is the encoder's, paths are the decoder's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from dig.generation.path_model import PromptState
from dig.generation.tree_paths import PromptCache, TreePathModel, TreeState, additive_mask, without_adapters

__all__ = ["T5PathModel"]


@dataclass
class _State(TreeState):
    """Prompts in the encoder, and one start token per prompt in the decoder."""

    encoded: Tensor | None = None
    encoded_mask: Tensor | None = None
    positions: list[int] = field(default_factory=list)  # of what the decoder has seen

    def rewind(self) -> None:
        """Forgets what was fed since the prompts were encoded."""
        self.cache.self_attention_cache.rewind(1)
        self.ancestors = None
        self.positions = [0]


class T5PathModel(TreePathModel):
    """Wraps a T5, bare or with adapters; the paths of a prompt share its encoding and their cross-attention.

    T5 knows no position ids: its decoder adds a learned bias by the distance of places. Paths that lie side by side are
    not at the distance that their places have, so the mask carries the difference of the two biases.

    Args:
        model: a T5 for conditional generation, or a peft model around one.
    """

    def __init__(self, model: nn.Module) -> None:
        t5 = without_adapters(model)
        if t5.config.model_type != "t5":
            raise ValueError(f"{t5.config.model_type}: of encoder-decoders only t5 is supported")
        super().__init__(model, t5.config, t5.get_decoder(), t5.get_output_embeddings())
        self.encoder = t5.get_encoder()
        self._attention = self.body.block[0].layer[0].SelfAttention
        scales = getattr(self.config, "scale_decoder_outputs", self.config.tie_word_embeddings)
        self._scale = self.config.d_model**-0.5 if scales else 1.0

    @property
    def context(self) -> int | None:
        """Relative positions have no end."""
        return None

    def logits(self, hidden: Tensor, vocabulary: Tensor | None = None) -> Tensor:
        """Logits (…, tokens) of the decoder's states (…, width), over given vocabulary ids or all."""
        return super().logits(hidden * self._scale, vocabulary)

    def encode(self, input_ids: Tensor, attention_mask: Tensor, spare: int = 0) -> PromptState:
        """Encodes prompts (batch, prompt), padded on either side, and feeds the decoder its start token."""
        mask = attention_mask.bool()
        encoded = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        start = torch.full((len(mask), 1), self.config.decoder_start_token_id, device=mask.device)
        begun = torch.ones_like(start, dtype=torch.bool)
        cache = EncoderDecoderCache(PromptCache(spare), DynamicCache())
        state = _State(encoded[:, 0], begun, begun.sum(dim=1), cache, None, encoded, mask)
        state.hidden = self._continue(state, start, begun.unsqueeze(1), torch.zeros_like(start))[:, 0]
        return state

    def run_tree(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """One differentiable pass over prompts and the paths behind them; see `PathModel.run_tree`."""
        batch, paths, steps = tokens.shape
        device = tokens.device
        encoded = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        start = torch.full((batch, 1), self.config.decoder_start_token_id, device=device)
        block = torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
        visible = torch.zeros(1 + paths * steps, 1 + paths * steps, dtype=torch.bool, device=device)
        visible[:, 0] = True
        visible[1:, 1:] = torch.block_diag(*[block] * paths).bool()
        positions = torch.cat(
            [torch.zeros(1, dtype=torch.int64, device=device), torch.arange(1, steps + 1, device=device).repeat(paths)]
        )
        output = self.body(
            input_ids=torch.cat([start, tokens.reshape(batch, -1)], dim=1),
            attention_mask=self._mask(visible.expand(batch, -1, -1), positions, positions, 0),
            encoder_hidden_states=encoded,
            encoder_attention_mask=attention_mask,
            use_cache=False,
        ).last_hidden_state
        return output[:, 0], output[:, 1:].reshape(batch, paths, steps, -1)

    def _continue(self, state: Any, tokens: Tensor, visible: Tensor, positions: Tensor) -> Tensor:
        past = len(state.positions)
        state.positions += positions[0].tolist()
        keys = torch.tensor(state.positions, device=tokens.device)
        return self.body(
            input_ids=tokens,
            attention_mask=self._mask(visible, positions[0], keys, past),
            encoder_hidden_states=state.encoded,
            encoder_attention_mask=state.encoded_mask,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state

    def _mask(self, visible: Tensor, queries: Tensor, keys: Tensor, past: int) -> Tensor:
        """The additive mask (batch, heads, queries, keys), with what moves the bias from places to positions."""
        places = torch.arange(len(keys), device=keys.device)
        bias = self._bias(keys - queries.unsqueeze(1))
        given = self._bias(places - places[past : past + len(queries)].unsqueeze(1))
        return additive_mask(visible, self.attention_dtype) + (bias - given).to(self.attention_dtype)

    def _bias(self, distance: Tensor) -> Tensor:
        attention = self._attention
        bucket = attention._relative_position_bucket(
            distance,
            bidirectional=False,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        return attention.relative_attention_bias(bucket).permute(2, 0, 1).unsqueeze(0)
