"""What a decoder layer computes, in few passes over memory, and keeping little for the backward pass.

The products are those of the model. Around them, what an architecture's own code writes out step by step is done in
one: a norm together with the products that read it, adapters added onto their layer's result, an activation with the
product behind it. What costs one pass to compute again (normalised states, activations) is not kept. With frozen
weights nothing is computed for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["Projection", "gated", "normed", "plain", "projection_of", "rotated"]

_PARTS = 4
"""Tensors of a projection: weight, bias, and the two of its adapter."""


@dataclass(frozen=True)
class Projection:
    """A linear layer with its adapter.

    Attributes:
        weight: (out, in).
        bias: (out,) or None.
        down: (rank, in) of the adapter, None without one.
        up: (out, rank).
        scale: of the adapter.
        dropout: on the adapter's input.
    """

    weight: Tensor
    bias: Tensor | None
    down: Tensor | None = None
    up: Tensor | None = None
    scale: float = 0.0
    dropout: float = 0.0


def projection_of(layer: Any, lora_linear: Any) -> Projection | None:
    """The parts of a linear layer, bare or with one adapter of peft; None for anything else.

    Args:
        layer: the layer.
        lora_linear: peft's class of linear layers with adapters; None where peft is not in use.
    """
    if type(layer) is nn.Linear:
        return Projection(layer.weight, layer.bias)
    if lora_linear is None or layer.__class__ is not lora_linear or type(layer.base_layer) is not nn.Linear:
        return None
    base, active = layer.base_layer, [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters and layer.merged:  # peft takes the adapter out of the weights first
        return None
    if layer.disable_adapters or layer.merged or not active:
        return Projection(base.weight, base.bias)
    name = active[0]
    if len(active) > 1 or name in layer.lora_variant or layer.lora_bias[name] or layer.fan_in_fan_out:
        return None
    dropout = layer.lora_dropout[name]
    share = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
    return Projection(base.weight, base.bias, down, up, layer.scaling[name], share)


def normed(states: Tensor, norm: Any, projections: Sequence[Projection]) -> tuple[Tensor, ...]:
    """Results (tokens, out) of layers that read the same states (tokens, width) behind a root-mean-square norm."""
    return _apply(states, norm.weight, None, norm.variance_epsilon, projections)


def gated(gate: Tensor, up: Tensor, projection: Projection, residual: Tensor) -> Tensor:
    """silu(gate) · up, (tokens, inner) each, through a layer, added to the residual (tokens, width)."""
    return _apply(gate, up, residual, 0.0, [projection])[0]


def plain(states: Tensor, projection: Projection, residual: Tensor) -> Tensor:
    """States (tokens, in) through a layer, added to the residual (tokens, width)."""
    return _apply(states, None, residual, 0.0, [projection])[0]


def rotated(states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Queries or keys (tokens, heads, width) turned by their positions' angles (tokens, width / 2)."""
    if not torch.is_grad_enabled():
        return _turned(states, cosines, sines, 1.0)
    turned: Tensor = _Rotation.apply(states, cosines, sines)
    return turned


def _apply(
    first: Tensor, second: Tensor | None, residual: Tensor | None, epsilon: float, projections: Sequence[Projection]
) -> tuple[Tensor, ...]:
    tensors = [part for each in projections for part in (each.weight, each.bias, each.down, each.up)]
    scales = tuple(each.scale for each in projections)
    dropout = max(each.dropout for each in projections)
    if not torch.is_grad_enabled():
        return _results(first, second, residual, epsilon, dropout, scales, tensors)[0]
    results: tuple[Tensor, ...] = _Projections.apply(first, second, residual, epsilon, dropout, scales, *tensors)
    return results


def _results(
    first: Tensor,
    second: Tensor | None,
    residual: Tensor | None,
    epsilon: float,
    dropout: float,
    scales: Sequence[float],
    tensors: Sequence[Any],
) -> tuple[tuple[Tensor, ...], Tensor | None, Tensor | None, Tensor | None]:
    """What the layers give, and what the backward pass needs of it: the norm's factors, dropout, adapters' insides."""
    inverse = _inverse_size(first, epsilon) if second is not None and second.ndim == 1 else None
    inputs = _inputs(first, second, inverse)[0]
    dropped = _dropped(inputs, dropout) if dropout else None
    downs = _stacked(tensors, inputs.dtype)
    low = None
    if downs is not None:
        low = (inputs if dropped is None else inputs.masked_fill(dropped, 0.0)) @ downs.T
    lows = _split(low, tensors)
    results = []
    for place, scale in enumerate(scales):
        weight, bias, _, up = tensors[_PARTS * place : _PARTS * (place + 1)]
        result = F.linear(inputs, weight, bias)
        mine = lows[place]
        if mine is not None and up is not None:
            result.addmm_(mine, up.to(inputs.dtype).T, alpha=scale / (1.0 - dropout))
        if residual is not None:
            result += residual
        results.append(result)
    return tuple(results), inverse, dropped, low


class _Projections(torch.autograd.Function):
    """Layers that read one input: ``first`` behind a norm of weight ``second`` (a vector), silu(first) · second
    (a matrix), or ``first`` itself. Adapters of one input share its dropout, and are computed in one product."""

    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        second: Tensor | None,
        residual: Tensor | None,
        epsilon: float,
        dropout: float,
        scales: tuple[float, ...],
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        results, inverse, dropped, low = _results(first, second, residual, epsilon, dropout, scales, tensors)
        ctx.save_for_backward(first, second, inverse, dropped, low, *tensors)
        ctx.scales, ctx.dropout = scales, dropout
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        first, second, inverse, dropped, low, *tensors = ctx.saved_tensors
        needed = ctx.needs_input_grad[6:]
        inputs, activated = _inputs(first, second, inverse)
        lows, of_lows = _split(low, tensors), []
        of_inputs = grads[0] @ tensors[0]
        of_tensors: list[Tensor | None] = []
        for place, (grad, mine, scale) in enumerate(zip(grads, lows, ctx.scales, strict=True)):
            part = slice(_PARTS * place, _PARTS * (place + 1))
            (weight, _, _, up), wanted = tensors[part], needed[part]
            if place:
                of_inputs.addmm_(grad, weight)
            of_tensors += [grad.T @ inputs if wanted[0] else None, grad.sum(dim=0) if wanted[1] else None, None, None]
            if mine is not None:
                share = scale / (1.0 - ctx.dropout)
                of_lows.append((grad @ up.to(grad.dtype)).mul_(share))
                of_tensors[-1] = (grad.T @ mine).mul_(share).to(up.dtype) if wanted[3] else None
        if of_lows:
            of_low = torch.cat(of_lows, dim=1)
            downs: Any = _stacked(tensors, of_low.dtype)
            if dropped is None:
                of_inputs.addmm_(of_low, downs)
            else:
                inputs = inputs.masked_fill(dropped, 0.0)
                of_inputs += (of_low @ downs).masked_fill_(dropped, 0.0)
            _give(of_tensors, of_low.T @ inputs, tensors, needed)
        of_first, of_second = _of_inputs(of_inputs, first, second, inverse, activated, ctx.needs_input_grad[1])
        of_residual = grads[0] if ctx.needs_input_grad[2] else None
        return of_first, of_second, of_residual, None, None, None, *of_tensors


def _stacked(tensors: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor | None:
    """(ranks, in) the first halves of all adapters, one under the other; None without any."""
    downs = [down.to(dtype) for down in tensors[2::_PARTS] if down is not None]
    return (downs[0] if len(downs) == 1 else torch.cat(downs)) if downs else None


def _split(low: Tensor | None, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """What each projection's adapter gave, of all (tokens, ranks); None for one without."""
    downs = tensors[2::_PARTS]
    if low is None:
        return [None] * len(downs)
    parts = iter(low.split([len(down) for down in downs if down is not None], dim=1))
    return [None if down is None else next(parts) for down in downs]


def _give(
    of_tensors: list[Tensor | None], of_downs: Tensor, tensors: Sequence[Tensor | None], needed: Sequence[bool]
) -> None:
    """Puts the gradients (ranks, in) of the adapters' first halves where each belongs."""
    start = 0
    for place in range(2, len(tensors), _PARTS):
        down = tensors[place]
        if down is not None:
            if needed[place]:
                of_tensors[place] = of_downs[start : start + len(down)].to(down.dtype)
            start += len(down)


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _turned(states, cosines, sines, 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _turned(grads[0], cosines, sines, -1.0), None, None


def _turned(states: Tensor, cosines: Tensor, sines: Tensor, sign: float) -> Tensor:
    cosines, sines = cosines.unsqueeze(1), sines.unsqueeze(1)
    result = torch.empty_like(states)
    (left, right), (new_left, new_right) = states.chunk(2, dim=-1), result.chunk(2, dim=-1)
    torch.mul(left, cosines, out=new_left).addcmul_(right, sines, value=-sign)
    torch.mul(right, cosines, out=new_right).addcmul_(left, sines, value=sign)
    return result


def _inverse_size(states: Tensor, epsilon: float) -> Tensor:
    """(tokens, 1) one over the root of the mean square, in float32 at least."""
    dtype = torch.promote_types(states.dtype, torch.float32)
    size = torch.linalg.vector_norm(states, dim=-1, keepdim=True, dtype=dtype)
    return size.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()


def _inputs(first: Tensor, second: Tensor | None, inverse: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """What the layers read, and the activated gate where there is one."""
    if second is None:
        return first, None
    if inverse is not None:
        return (first * inverse).to(first.dtype).mul_(second), None
    activated = F.silu(first)
    return activated * second, activated


def _of_inputs(
    grad: Tensor, first: Tensor, second: Tensor | None, inverse: Tensor | None, activated: Tensor | None, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of what the inputs were computed of; ``grad`` is used up."""
    if second is None:
        return grad, None
    if activated is not None:
        return torch.ops.aten.silu_backward(grad * second, first), grad.mul_(activated)
    if inverse is None:
        raise RuntimeError("a norm without its factors")
    normalised = first * inverse
    of_second = (grad * normalised).sum(dim=0).to(second.dtype) if wanted else None
    scaled = grad.mul_(second).to(normalised.dtype)
    along = torch.linalg.vecdot(normalised, scaled).unsqueeze(-1) / first.shape[-1]
    return scaled.addcmul(normalised, along, value=-1.0).mul_(inverse).to(first.dtype), of_second


def _dropped(inputs: Tensor, dropout: float) -> Tensor:
    """Which inputs dropout takes away, a byte each; on a CPU random bits are dear, so sixteen decide of one."""
    if inputs.device.type != "cpu":
        return torch.rand(inputs.shape, device=inputs.device) < dropout
    count = inputs.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    limit = round(dropout * 2**16) - 2**15
    return (bits.view(torch.int16)[:count] < limit).view(inputs.shape)
