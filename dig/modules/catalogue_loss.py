"""Cross-entropy over a whole catalogue that never holds the logits of a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["catalogue_cross_entropy", "states_at_once"]

_CHUNK = {"cpu": 128}  # logits of so many states fit a processor's cache; a GPU wants large products
_CHUNK_ELSEWHERE = 4096


def catalogue_cross_entropy(states: Tensor, items: Tensor, targets: Tensor) -> Tensor:
    """Mean of ``-log softmax(states · itemsᵀ)[target]``, with the gradients of the plain computation.

    Logits, softmax and both gradients of a few states are computed while they are at hand, so that memory does not
    grow with the batch times the catalogue. Products run in autocast's type where that is on, sums in float32.

    Args:
        states: (states, width).
        items: (items, width) the output layer, usually the item table.
        targets: (states,) item rows.

    Returns:
        A 0-d float32 tensor; 0 without states.
    """
    return _CatalogueLoss.apply(states, items, targets)


def states_at_once(device: str) -> int:
    """How many states' logits a kind of device keeps at a time."""
    return _CHUNK.get(device, _CHUNK_ELSEWHERE)


class _CatalogueLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, targets: Tensor) -> Tensor:
        device = states.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
        table, count = items.to(kind), max(len(states), 1)
        total = states.new_zeros((), dtype=torch.float32)
        of_states = torch.empty_like(states, dtype=torch.float32)
        of_items = torch.zeros_like(items, dtype=torch.float32)
        size = states_at_once(device)
        for start in range(0, len(states), size):
            chunk, wanted = states[start : start + size].to(kind), targets[start : start + size, None]
            logits = (chunk @ table.T).float()
            highest = logits.amax(dim=1, keepdim=True)
            target = logits.gather(1, wanted) - highest
            shares = logits.sub_(highest).exp_()
            mass = shares.sum(dim=1, keepdim=True)
            total += (mass.log() - target).sum()
            shares.div_(mass * count).scatter_add_(1, wanted, torch.full_like(target, -1.0 / count))
            slopes = shares.to(kind)
            of_states[start : start + size] = slopes @ table
            of_items += slopes.T @ chunk
        ctx.save_for_backward(of_states, of_items)
        ctx.kinds = states.dtype, items.dtype
        return total / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        of_states, of_items = ctx.saved_tensors
        states, items = ctx.kinds
        return (of_states * grads[0]).to(states), (of_items * grads[0]).to(items), None
