"""The loss of an encoder-decoder that spells the next item, over histories that lie side by side in rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dig.generation.t5_paths import T5PathModel
from dig.generation.tree_paths import additive_mask

if TYPE_CHECKING:
    from datamodules.item_sequences import AnswerBatch

__all__ = ["answer_loss", "answer_states"]


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
    """The decoder's states (rows, histories a row, levels, width) that predict each answer's tokens.

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
