"""The loss of supervised fine-tuning: weighted cross-entropy of the supervised tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from dig.generation.decoder import Decoder
from dig.generation.vocabulary import SidVocabulary

if TYPE_CHECKING:
    from datamodules.packing import TrainingTokens

__all__ = ["next_token_loss"]


def next_token_loss(
    decoder: Decoder, batch: TrainingTokens, label_smoothing: float = 0.0, levels: SidVocabulary | None = None
) -> Tensor:
    """Cross-entropy of the supervised tokens: the mean over answers of the weighted mean over an answer's tokens.

    So a title of thirty tokens counts as much as an item of three. With one task and Semantic IDs of one length this
    is the plain mean over tokens. The output layer is computed at supervised positions only: with a large vocabulary
    the logits, not the weights, are what fills the memory.

    Args:
        decoder: the model.
        batch: tokens (rows, length), padded on the right, with labels and weights; rows may hold several samples.
        label_smoothing: share of the target's probability that is spread over what it competes with.
        levels: where given, a SID token competes with the codes of its own level alone.
    """
    hidden = decoder.hidden(batch.input_ids, batch.attention_mask)
    labels, weights = batch.labels[:, 1:], batch.weights[:, 1:]
    supervised = labels != -100
    states, targets = hidden[:, :-1][supervised], labels[supervised]
    if levels is None:
        losses = F.cross_entropy(decoder.logits(states), targets, label_smoothing=label_smoothing, reduction="none")
    else:
        losses = _losses_by_level(decoder, states, targets, label_smoothing, levels)
    return (losses * weights[supervised]).sum() / batch.responses


def _losses_by_level(
    decoder: Decoder, states: Tensor, targets: Tensor, label_smoothing: float, levels: SidVocabulary
) -> Tensor:
    """(tokens,) losses over the codes of each target's level; over the whole vocabulary for words."""
    losses = torch.zeros(len(targets), device=targets.device)
    words = torch.ones_like(targets, dtype=torch.bool)
    for first, size in zip(levels.first_ids, levels.sizes, strict=True):
        mine = (targets >= first) & (targets < first + size)
        words &= ~mine
        logits = decoder.logits(states[mine], torch.arange(first, first + size, device=targets.device))
        found = F.cross_entropy(logits, targets[mine] - first, label_smoothing=label_smoothing, reduction="none")
        losses = losses.masked_scatter(mine, found)
    if words.any():
        found = F.cross_entropy(
            decoder.logits(states[words]), targets[words], label_smoothing=label_smoothing, reduction="none"
        )
        losses = losses.masked_scatter(words, found)
    return losses
