"""The loss of histories side by side is that of each history alone, by transformers' own T5, gradients and all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import tiny
from torch import Tensor

from datamodules.histories import Histories
from datamodules.item_sequences import AnswerBatch, HistoryTokens
from dig.modules.losses import answer_loss, answer_states

ROWS = [[0, 1, 2, 3, 4, 5, 6], [7], [8, 9], [10, 11, 12], [13], [14, 15, 16, 17], [18, 18], [19], [20, 21, 22, 1, 2]]
TARGETS = [7, 3, 0, 22, 23, 1, 9, 4, 5]


def tokens() -> HistoryTokens:
    return HistoryTokens(tiny.token_sequences(tiny.ragged_catalogue()), max_history=6, pad_id=0)


def batch(rows: list[list[int]] = ROWS, targets: list[int] = TARGETS) -> AnswerBatch:
    histories = Histories.from_lists([np.array(row) for row in rows])
    return tokens().batch(histories, np.array(targets), np.arange(len(rows)))


def slow_losses(model: Any, rows: list[list[int]], targets: list[int], smoothing: float = 0.0) -> list[Tensor]:
    """One history a pass through transformers' T5, no padding, no mask."""
    table, found = tokens().item_tokens, []
    for row, target in zip(rows, targets, strict=True):
        read = torch.tensor([token for item in row[-6:] for token in table[item].tolist() if token >= 0])
        answer = torch.tensor([token for token in table[target].tolist() if token >= 0])
        logits = model(input_ids=read[None], labels=answer[None]).logits[0]
        found.append(F.cross_entropy(logits, answer, label_smoothing=smoothing))
    return found


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_loss_and_gradients_are_those_of_one_history_a_pass(smoothing: float, attention: str):
    model = tiny.tiny_encoder_decoder("t5", attn_implementation=attention)
    packed = batch()
    assert len(packed.input_ids) < len(ROWS)  # they share rows
    loss = answer_loss(model, packed, smoothing)
    expected = torch.stack(slow_losses(model, ROWS, TARGETS, smoothing)).mean()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    found, wanted = gradients(model, loss), gradients(model, expected)
    assert found.keys() == wanted.keys() and any("relative_attention_bias" in name for name in found)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=2e-5, rtol=1e-4, msg=name)


def test_a_history_does_not_see_its_neighbours_in_the_row():
    model = tiny.tiny_encoder_decoder("t5")
    packed, other = batch(), batch()
    spot = (packed.segments == 1) & (packed.segments.max(dim=1, keepdim=True).values > 1)
    other.input_ids[spot] = (other.input_ids[spot] - 4 + 1) % 12 + 4
    assert spot.any()
    with torch.no_grad():
        first, second = answer_states(model, packed), answer_states(model, other)
    shared = (packed.answers[..., 0] >= 0) & spot.any(dim=1, keepdim=True)
    changed = (first - second).abs().amax(dim=(2, 3))
    assert shared[:, 0].any() and changed[:, 0][shared[:, 0]].min() > 1e-3
    assert shared[:, 1:].any() and changed[:, 1:][shared[:, 1:]].max() < 1e-5


def test_wider_rows_change_nothing():
    model = tiny.tiny_encoder_decoder("t5")
    packed = batch()
    wide = AnswerBatch(
        F.pad(packed.input_ids, (0, 5)),
        F.pad(packed.segments, (0, 5)),
        F.pad(packed.answers, (0, 0, 0, 2), value=-1),
        packed.samples,
    )
    torch.testing.assert_close(answer_loss(model, packed), answer_loss(model, wide))


def test_an_answer_counts_once_however_long_it_is():
    model = tiny.tiny_encoder_decoder("t5")
    lengths = (tokens().item_tokens >= 0).sum(dim=1)
    long, short = int(lengths.argmax()), int(lengths.argmin())
    assert lengths[long] > lengths[short]
    rows, targets = [[1, 2], [3, 4]], [long, short]
    one, other = slow_losses(model, rows, targets)
    torch.testing.assert_close(answer_loss(model, batch(rows, targets)), (one + other) / 2, atol=1e-5, rtol=1e-5)
