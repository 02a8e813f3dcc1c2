"""The path model of Llama and its kin, computed by dig itself: what prompts share is encoded once, and nothing twice.

A batch is a forest: tokens that all prompts begin with (a system prompt, an instruction) come first, once; then what
is left of each prompt; then the paths behind each. All tokens go through a layer's products side by side, without
padding; attention alone looks at them part by part. In the last layer only what is asked for is computed to the end.

Which models that is true of is asked, layer by layer, each time; everything else is a
:class:`~dig.generation.causal_paths.CausalPathModel`, whose results these are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dig.generation.causal_paths import CausalPathModel
from dig.generation.decoder_layers import Projection, gated, normed, plain, projection_of, rotated
from dig.generation.path_model import PromptState
from dig.generation.token_rows import embedded
from dig.generation.tree_paths import TreeState, additive_mask, without_adapters

__all__ = ["DecoderPathModel", "decoder_paths"]

_FAMILIES = {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"}
_ROTATIONS = {"default", "linear", "llama3", "yarn"}
"""Rotary embeddings whose angles do not depend on the longest sequence of a batch."""
_LEAST_WIDTH = 512
"""Narrower models stay with the architecture's own code: little of their time is matrix products."""
_LEAST_SHARED = 8
"""Tokens at the beginning of all prompts that are worth a part of their own."""


def decoder_paths(model: nn.Module) -> CausalPathModel:
    """The fastest path model of a model whose paths may share a row, as it is at the moment."""
    causal = without_adapters(model)
    wide = (getattr(causal.config, "hidden_size", 0) or 0) >= _LEAST_WIDTH
    layers = _layers(model) if wide else None
    return CausalPathModel(model) if layers is None else DecoderPathModel(model, layers)


@dataclass(frozen=True)
class _Layer:
    """The parts of a decoder layer."""

    own: Any
    before: tuple[Projection, Projection, Projection]
    out: Projection
    gate_and_up: tuple[Projection, Projection]
    down: Projection


@dataclass
class _Part:
    """Rows of tokens of one forest that attend alike, side by side and perhaps padded.

    Attributes:
        rows: how many.
        length: tokens of the longest.
        mask: (rows or 1, 1, length, keys) additive, over the tokens of the parts before and the own ones.
        behind: numbers of the parts that they stand behind, the first first; one of a single row is everybody's.
        cells: (tokens,) cells of (rows · length) that hold a token; None where all do.
    """

    rows: int
    length: int
    mask: Tensor
    behind: tuple[int, ...] = ()
    cells: Tensor | None = None

    @property
    def tokens(self) -> int:
        return self.rows * self.length if self.cells is None else len(self.cells)

    def laid_out(self, flat: Tensor) -> Tensor:
        """(rows, length, …) of (tokens, …), 0 at padding."""
        if self.cells is None:
            return flat.unflatten(0, (self.rows, self.length))
        room = flat.new_zeros(self.rows * self.length, *flat.shape[1:])
        return room.index_copy(0, self.cells, flat).unflatten(0, (self.rows, self.length))

    def taken_up(self, laid_out: Tensor) -> Tensor:
        """(tokens, …) of (rows, length, …)."""
        flat = laid_out.flatten(0, 1)
        return flat if self.cells is None else flat.index_select(0, self.cells)


@dataclass
class _Room:
    """Keys and values (rows, heads, places, width) of each layer, with places for what comes."""

    spare: int
    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    length: int = 0

    def rewind(self, length: int) -> None:
        """Forgets what was fed after the first ``length`` tokens."""
        self.length = length

    def begin(self, keys: Tensor, values: Tensor) -> None:
        """A layer's first keys and values."""
        self.length = keys.shape[2]
        self.layers.append((self._grown(keys), self._grown(values)))

    def follow(self, layer: int, keys: Tensor, values: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Writes a layer's next keys and values from ``start`` on and gives all of them."""
        end = start + keys.shape[2]
        if end > self.layers[layer][0].shape[2]:
            old = self.layers[layer]
            self.layers[layer] = (self._grown(old[0], keys.shape[2]), self._grown(old[1], keys.shape[2]))
        for room, new in zip(self.layers[layer], (keys, values), strict=True):
            room[:, :, start:end] = new
        self.length = end
        return self.layers[layer][0][:, :, :end], self.layers[layer][1][:, :, :end]

    def _grown(self, states: Tensor, more: int = 0) -> Tensor:
        room = states.new_empty(*states.shape[:2], states.shape[2] + self.spare + more, states.shape[3])
        room[:, :, : states.shape[2]] = states
        return room


class DecoderPathModel(CausalPathModel):
    """A decoder of the Llama kind.

    Args:
        model: the model, bare or with adapters.
        layers: the parts of its layers, as they are at the moment; None reads them.

    Raises:
        ValueError: a layer is of another kind.
    """

    def __init__(self, model: nn.Module, layers: list[_Layer] | None = None) -> None:
        super().__init__(model)
        known = _layers(model) if layers is None else layers
        if known is None:
            raise ValueError(f"a {self.config.model_type} is not a decoder that is computed here")
        self.layers = known
        self.embedding = self.body.get_input_embeddings()
        heads = self.config.num_attention_heads
        self.key_heads = self.config.num_key_value_heads
        self.width = getattr(self.config, "head_dim", None) or self.config.hidden_size // heads
        self.shared = heads // self.key_heads

    def states_at(self, input_ids: Tensor, attention_mask: Tensor, wanted: Tensor) -> Tensor:
        """States (wanted, width) of tokens; see `CausalPathModel.states_at`."""
        real = attention_mask > 0
        turns = attention_mask + torch.arange(len(input_ids), device=input_ids.device).unsqueeze(1) * (
            int(attention_mask.max()) + 1
        )
        lengths = turns[real].unique_consecutive(return_counts=True)[1]
        forest = _Forest.of_samples(input_ids[real], lengths, wanted[real], self.shared, self.attention_dtype)
        return self._run(forest)

    def hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States (rows, length, width), 0 at padding; see `CausalPathModel.hidden`."""
        real = attention_mask > 0
        states = self.states_at(input_ids, attention_mask, real)
        return states.new_zeros(*real.shape, states.shape[-1]).masked_scatter(real.unsqueeze(-1), states)

    def encode(self, input_ids: Tensor, attention_mask: Tensor, spare: int = 0) -> PromptState:
        """Encodes prompts (batch, prompt), padded on either side, and keeps their keys and values."""
        forest = _Forest.of_prompts(input_ids, attention_mask.bool(), self.shared, self.attention_dtype)
        room = _Room(spare)
        hidden = self._run(forest, room)
        return TreeState(hidden, forest.filled, forest.filled.sum(dim=1), room)

    def run_tree(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """One differentiable pass over prompts and the paths behind them; see `PathModel.run_tree`."""
        batch, paths, steps = tokens.shape
        forest = _Forest.of_prompts(input_ids, attention_mask.bool(), self.shared, self.attention_dtype)
        forest.add_paths(tokens, self.shared, self.attention_dtype)
        states = self._run(forest)
        return states[:batch], states[batch:].view(batch, paths, steps, -1)

    def _continue(self, state: TreeState, tokens: Tensor, visible: Tensor, positions: Tensor) -> Tensor:
        rows, paths = tokens.shape
        start, room = state.cache.length, state.cache
        mask = additive_mask(visible, self.attention_dtype).repeat(1, 1, self.shared, 1)

        def attend(number: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            new = (part.unflatten(0, (rows, paths)).transpose(1, 2) for part in (keys, values))
            every_key, every_value = room.follow(number, *new, start)
            return self._attended(queries.unflatten(0, (rows, paths)), every_key, every_value, mask).flatten(0, 1)

        states = self._through_layers(tokens.flatten(), positions.flatten(), attend, None)
        return states.unflatten(0, (rows, paths))

    def _run(self, forest: _Forest, room: _Room | None = None) -> Tensor:
        """States (wanted, width) of a forest."""

        def attend(number: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            results: list[Tensor] = []
            held: list[tuple[Tensor, Tensor]] = []
            sizes = [part.tokens for part in forest.parts]
            split = zip(forest.parts, queries.split(sizes), keys.split(sizes), values.split(sizes), strict=True)
            for part, *mine in split:
                asked, own_keys, own_values = (part.laid_out(flat) for flat in mine)
                own = (own_keys.transpose(1, 2), own_values.transpose(1, 2))
                held.append(own)
                before = [[held[other][side].expand(part.rows, -1, -1, -1) for other in part.behind] for side in (0, 1)]
                every = [torch.cat([*earlier, mine], dim=2) for earlier, mine in zip(before, own, strict=True)]
                if room is not None and part is forest.parts[-1]:
                    room.begin(*every)
                results.append(part.taken_up(self._attended(asked, every[0], every[1], part.mask)))
            return torch.cat(results)

        return self._through_layers(forest.tokens, forest.positions, attend, forest.wanted)

    def _attended(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """(rows, length, heads, width) of queries alike over keys and values (rows, key heads, places, width).

        Queries that share a head of keys stand behind each other, so that no key is copied.
        """
        rows, length = queries.shape[:2]
        together = queries.unflatten(2, (self.key_heads, self.shared)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        attended = F.scaled_dot_product_attention(together, keys, values, attn_mask=mask)
        return attended.unflatten(2, (self.shared, length)).permute(0, 3, 1, 2, 4).reshape(rows, length, -1, self.width)

    def _through_layers(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Callable[[int, Tensor, Tensor, Tensor], Tensor],
        wanted: Tensor | None,
    ) -> Tensor:
        """Normalised states of tokens (n,) at positions (n,), of those that are wanted or all."""
        states = embedded(self.embedding, tokens)
        cosines, sines = self.body.rotary_emb(states.unsqueeze(0), position_ids=positions.unsqueeze(0))
        half = self.width // 2
        angles = (cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous())
        for number, layer in enumerate(self.layers):
            last = wanted if number == len(self.layers) - 1 else None
            if getattr(layer.own, "gradient_checkpointing", False) and layer.own.training and torch.is_grad_enabled():
                states = checkpoint(self._layer, number, states, angles, attend, last, use_reentrant=False)
            else:
                states = self._layer(number, states, angles, attend, last)
        normalised: Tensor = self.body.norm(states)
        return normalised

    def _layer(
        self,
        number: int,
        states: Tensor,
        angles: tuple[Tensor, Tensor],
        attend: Callable[[int, Tensor, Tensor, Tensor], Tensor],
        wanted: Tensor | None,
    ) -> Tensor:
        layer = self.layers[number]
        own, attention = layer.own, layer.own.self_attn
        queries, keys, values = (
            flat.unflatten(-1, (-1, self.width)) for flat in normed(states, own.input_layernorm, layer.before)
        )
        if hasattr(attention, "q_norm"):
            queries, keys = attention.q_norm(queries), attention.k_norm(keys)
        attended = attend(number, rotated(queries, *angles), rotated(keys, *angles), values).flatten(1)
        if wanted is not None:
            attended, states = attended[wanted], states[wanted]
        states = plain(attended, layer.out, states)
        gate, up = normed(states, own.post_attention_layernorm, layer.gate_and_up)
        return gated(gate, up, layer.down, states)


@dataclass
class _Forest:
    """Tokens of a batch, each once.

    Attributes:
        tokens: (n,) one part after the other.
        positions: (n,).
        parts: how they attend.
        wanted: (m,) places of the tokens whose states are asked for.
        filled: (batch, places) of prompts: where the keys of each are, those that all share and its own.
    """

    tokens: Tensor
    positions: Tensor
    parts: list[_Part]
    wanted: Tensor
    filled: Tensor

    @classmethod
    def of_samples(cls, tokens: Tensor, lengths: Tensor, wanted: Tensor, shared: int, dtype: torch.dtype) -> _Forest:
        """Samples one after the other.

        Args:
            tokens: (n,) of all samples.
            lengths: (samples,).
            wanted: (n,) True where a state is asked for.
            shared: queries that share a head of keys.
            dtype: of attention.
        """
        device, count, longest = tokens.device, len(lengths), int(lengths.max())
        place = torch.arange(longest, device=device)
        filled = place < lengths.unsqueeze(1)
        ids = tokens.new_zeros(count, longest).masked_scatter(filled, tokens)
        asked = torch.zeros_like(filled).masked_scatter(filled, wanted)
        common = _common(ids, filled, asked)
        forest = cls._beginning(ids, filled, common, shared, dtype)
        # where each token is now: those of the shared part are the first sample's
        own = filled & (place >= common)
        places = torch.zeros_like(ids).masked_scatter(own, torch.arange(common, len(forest.tokens), device=device))
        forest.wanted = places[asked]
        return forest

    @classmethod
    def of_prompts(cls, input_ids: Tensor, mask: Tensor, shared: int, dtype: torch.dtype) -> _Forest:
        """Prompts (batch, prompt), padded on either side, the last token of each asked for."""
        lengths = mask.sum(dim=1)
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        filled = place < lengths.clamp(min=1).unsqueeze(1)
        order = mask.to(torch.int8).argsort(dim=1, descending=True, stable=True)
        ids = input_ids.gather(1, order)
        last = (lengths - 1).clamp(min=0)
        asked = place == last.unsqueeze(1)
        common = _common(ids, filled, asked)
        forest = cls._beginning(ids, filled, common, shared, dtype)
        own = lengths.clamp(min=1) - common
        forest.wanted = common + own.cumsum(dim=0) - 1
        forest.filled = place < lengths.unsqueeze(1)  # an empty prompt is computed, and nobody sees it
        return forest

    @classmethod
    def _beginning(cls, ids: Tensor, filled: Tensor, common: int, shared: int, dtype: torch.dtype) -> _Forest:
        """Rows (rows, length), filled from the left, of which the first tokens are the same in all."""
        rows, length = ids.shape
        device = ids.device
        place = torch.arange(length, device=device)
        causal = place.unsqueeze(0) <= place.unsqueeze(1)
        parts: list[_Part] = []
        own = filled[:, common:]
        every = bool(own.all())
        if common:
            parts.append(_Part(1, common, _mask(causal[:common, :common], shared, dtype)))
        cells = None if every else own.flatten().nonzero()[:, 0]
        mask = _mask(causal[common:], shared, dtype)
        parts.append(_Part(rows, length - common, mask, tuple(range(len(parts))), cells))
        tokens = torch.cat([ids[0, :common], ids[:, common:][own]])
        positions = torch.cat([place[:common], place[common:].expand(rows, -1)[own]])
        return cls(tokens, positions, parts, tokens[:0], filled)

    def add_paths(self, tokens: Tensor, shared: int, dtype: torch.dtype) -> None:
        """Puts paths (batch, paths, steps) behind prompts; all of their states are asked for, too."""
        batch, paths, steps = tokens.shape
        device = tokens.device
        block = torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
        among = torch.block_diag(*[block] * paths).bool().expand(batch, -1, -1)
        visible = torch.cat([self.filled.unsqueeze(1).expand(-1, paths * steps, -1), among], dim=2)
        mask = additive_mask(visible, dtype).repeat(1, 1, shared, 1)
        self.parts.append(_Part(batch, paths * steps, mask, tuple(range(len(self.parts)))))
        first = len(self.tokens)
        own = self.filled.sum(dim=1).view(-1, 1, 1) + torch.arange(steps, device=device).expand(1, paths, -1)
        self.tokens = torch.cat([self.tokens, tokens.flatten()])
        self.positions = torch.cat([self.positions, own.flatten()])
        self.wanted = torch.cat([self.wanted, torch.arange(first, len(self.tokens), device=device)])


def _common(ids: Tensor, filled: Tensor, asked: Tensor) -> int:
    """How many tokens all rows (rows, length) begin with, none of them asked for."""
    if len(ids) == 1:
        return 0
    same = (ids == ids[:1]).all(dim=0) & filled.all(dim=0) & ~asked.any(dim=0)
    common = int(same.long().cumprod(dim=0).sum())
    return common if common >= _LEAST_SHARED else 0


def _mask(visible: Tensor, shared: int, dtype: torch.dtype) -> Tensor:
    """(1, 1, shared · queries, keys) of (queries, keys)."""
    return additive_mask(visible.unsqueeze(0), dtype).repeat(1, 1, shared, 1)


def _layers(model: nn.Module) -> list[_Layer] | None:
    """The parts of all layers; None where a layer does something else, or somebody listens to one."""
    causal = without_adapters(model)
    config, body = causal.config, causal.base_model
    rotation = getattr(config, "rope_parameters", None) or {}
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    layers = getattr(body, "layers", None)
    if (
        layers is None
        or not layers
        or not hasattr(body, "norm")
        or kinds
        or getattr(config, "hidden_act", None) != "silu"
        or rotation.get("rope_type") not in _ROTATIONS
        or rotation.get("partial_rotary_factor", 1.0) != 1.0
        or (getattr(config, "attention_dropout", 0.0) and causal.training)
        or torch.is_autocast_enabled(next(body.parameters()).device.type)
    ):
        return None
    peft = sys.modules.get("peft")
    lora_linear = None if peft is None else peft.tuners.lora.Linear
    parts = [_parts(layer, lora_linear) for layer in layers]
    known = [part for part in parts if part is not None]
    return known if len(known) == len(parts) else None


def _is_sharded(layer: nn.Module) -> bool:
    """Whether FSDP2 has the layer's weights; only who has imported it can have that, and it takes a second."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(layer, fsdp.FSDPModule)


def _parts(layer: Any, lora_linear: type | None) -> _Layer | None:
    if type(layer).__name__ not in _FAMILIES or _is_sharded(layer):
        return None
    if any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules()):
        return None
    attention, network = layer.self_attn, layer.mlp
    linear = (
        attention.q_proj,
        attention.k_proj,
        attention.v_proj,
        attention.o_proj,
        network.gate_proj,
        network.up_proj,
        network.down_proj,
    )
    projections = [projection_of(each, lora_linear) for each in linear]
    known = [each for each in projections if each is not None]
    if len(known) < len(projections):
        return None
    query, key, value, out, gate, up, down = known
    return _Layer(layer, (query, key, value), out, (gate, up), down)
