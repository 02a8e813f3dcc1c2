"""Losses that modules share: over the catalogue in pieces, and over answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dig.generation.t5_paths import T5PathModel
from dig.generation.tree_paths import additive_mask

if TYPE_CHECKING:
    from datamodules.item_sequences import AnswerBatch

__all__ = [
    "catalogue_cross_entropy",
    "states_at_once",
    "answer_loss",
    "answer_states",
]


_CHUNK = {"cpu": 128}  # logits of this many states fit a processor's cache; a GPU wants large products
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
            chunk, labels = states[start : start + size].to(kind), targets[start : start + size, None]
            logits = (chunk @ table.T).float()
            highest = logits.amax(dim=1, keepdim=True)
            target = logits.gather(1, labels) - highest
            shares = logits.sub_(highest).exp_()
            mass = shares.sum(dim=1, keepdim=True)
            total += (mass.log() - target).sum()
            shares.div_(mass * count).scatter_add_(1, labels, torch.full_like(target, -1.0 / count))
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


def answer_loss(model: nn.Module, batch: AnswerBatch, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the answers' tokens: the mean over answers of the mean over an answer's tokens.

    Args:
        model: a T5.
        batch: histories and answers.
        label_smoothing: share of a target's probability that is spread over the vocabulary.
    """
    spelled = batch.answers >= 0
    states = answer_states(model, batch)[spelled]  # the output layer is computed where something is learned
    logits = T5PathModel(model).logits(states)
    losses = F.cross_entropy(logits, batch.answers[spelled], label_smoothing=label_smoothing, reduction="none")
    lengths = spelled.sum(dim=2, keepdim=True)
    return (losses / lengths.expand_as(spelled)[spelled]).sum() / (lengths > 0).sum()


def answer_states(model: nn.Module, batch: AnswerBatch) -> Tensor:
    """The decoder's states (rows, histories per row, levels, width) that predict each answer's tokens.

    T5 knows of places only their distance, and a history's tokens keep theirs wherever in a row they lie. So masks are
    all it takes: encoder and decoder look within a history and its answer alone, and a state is the one it has alone.
    """
    view = T5PathModel(model)
    device, dtype = batch.segments.device, view.attention_dtype
    rows, histories, levels = batch.answers.shape
    together = batch.segments.unsqueeze(2) == batch.segments.unsqueeze(1)
    encoded = view.encoder(input_ids=batch.input_ids, attention_mask=additive_mask(together, dtype)).last_hidden_state
    owners = torch.arange(1, histories + 1, device=device).repeat_interleave(levels)
    own_past = (owners.unsqueeze(1) == owners).tril().expand(rows, -1, -1)
    own_history = owners.view(1, -1, 1) == batch.segments.unsqueeze(1)
    given = batch.answers[..., :-1].clamp(min=view.config.pad_token_id)
    begun = F.pad(given, (1, 0), value=view.config.decoder_start_token_id)
    states = view.body(
        input_ids=begun.flatten(1),
        attention_mask=additive_mask(own_past, dtype),
        encoder_hidden_states=encoded,
        encoder_attention_mask=additive_mask(own_history, dtype),
        use_cache=False,
    ).last_hidden_state
    return states.unflatten(1, (histories, levels))
