"""Embedding and output layer of a model whose SID rows are trained beside frozen words, without a copy of the table.

peft writes the trained rows into a copy of the whole embedding whenever a layer is called, forward and backward. With
fifty thousand words and a few hundred codes that costs as much as a layer, so rows are looked up in the two parts.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

__all__ = ["TrainedRows", "chosen_logits", "embedded", "every_logit"]


@dataclass(frozen=True)
class TrainedRows:
    """A table of which some rows are parameters of their own.

    Attributes:
        base: the layer underneath, an embedding or an output layer.
        ids: (rows,) which rows are trained, rising.
        rows: (rows, width) what stands there instead.
    """

    base: Any
    ids: Tensor
    rows: Tensor

    @classmethod
    def of(cls, layer: nn.Module) -> TrainedRows | None:
        """The parts of a layer that peft has wrapped; None where it acts as the layer underneath, or otherwise."""
        peft = sys.modules.get("peft")
        if peft is None or not isinstance(layer, peft.utils.other.TrainableTokensWrapper):
            return None
        tokens = layer.token_adapter
        active = tokens.active_adapters
        if tokens.disable_adapters or tokens.merged or len(active) != 1:
            return None
        ids = torch.tensor(tokens.token_indices[active[0]])
        rows = tokens.trainable_tokens_delta[active[0]]
        order = ids.argsort()
        if (order[1:] < order[:-1]).any():
            ids, rows = ids[order], rows[order.to(rows.device)]
        return cls(tokens.base_layer, ids.to(rows.device), rows)

    def places(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """For each token its place among the trained rows, and whether it is one; else the place means nothing."""
        place = torch.searchsorted(self.ids, tokens.contiguous()).clamp(max=len(self.ids) - 1)
        return place, self.ids[place] == tokens


def embedded(layer: nn.Module, tokens: Tensor) -> Tensor:
    """Vectors (…, width) of tokens (…) as an embedding gives them."""
    parts = TrainedRows.of(layer)
    if parts is None or type(parts.base) is not nn.Embedding or parts.base.max_norm is not None:
        vectors: Tensor = layer(tokens)
        return vectors
    place, trained = parts.places(tokens)
    table = parts.base.weight
    return torch.where(trained.unsqueeze(-1), F.embedding(place, parts.rows).to(table.dtype), table[tokens])


def chosen_logits(layer: Any, hidden: Tensor, vocabulary: Tensor) -> Tensor:
    """Logits (…, tokens) of an output layer for states (…, width), of some tokens (tokens,)."""
    parts = TrainedRows.of(layer)
    if parts is not None and type(parts.base) is nn.Linear:
        place, trained = parts.places(vocabulary)
        rows = parts.rows[place].to(hidden.dtype)
        if not trained.all():
            rows = torch.where(trained.unsqueeze(-1), rows, parts.base.weight[vocabulary])
        return _product(hidden, rows, parts.base.bias, vocabulary)
    layer = _underneath(layer)
    if type(layer) is nn.Linear or is_parametrized(layer, "weight"):  # a quantised layer has no rows to pick
        return _product(hidden, layer.weight[vocabulary], layer.bias, vocabulary)
    logits: Tensor = layer(hidden)[..., vocabulary]
    return logits


def every_logit(layer: Any, hidden: Tensor) -> Tensor:
    """Logits (…, vocabulary) of an output layer for states (…, width)."""
    parts = TrainedRows.of(layer)
    if parts is None or type(parts.base) is not nn.Linear:
        logits: Tensor = layer(hidden)
        return logits
    own = _product(hidden, parts.rows.to(hidden.dtype), parts.base.bias, parts.ids)
    return parts.base(hidden).index_copy(-1, parts.ids, own)


def _product(hidden: Tensor, rows: Tensor, bias: Tensor | None, vocabulary: Tensor) -> Tensor:
    return F.linear(hidden, rows, None if bias is None else bias[vocabulary])


def _underneath(layer: Any) -> Any:
    """The output layer itself where peft's wrapper is switched off or merged."""
    peft = sys.modules.get("peft")
    if peft is None or not isinstance(layer, peft.utils.other.TrainableTokensWrapper):
        return layer
    tokens = layer.token_adapter
    off = tokens.disable_adapters or not tokens.active_adapters
    return tokens.base_layer if off != bool(tokens.merged) else layer
