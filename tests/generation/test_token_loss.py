"""The loss of SFT against slow sums: weights, answers, levels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support import tiny

from datamodules.packing import TrainingTokens
from dig.generation import causal_paths
from dig.generation.causal_paths import CausalPathModel, next_token_loss
from dig.generation.vocabulary import SidVocabulary

LEVELS = SidVocabulary((10, 12, 8), (6, 16, 28))  # words lie on both sides of the SID tokens


def batch(seed: int = 0) -> TrainingTokens:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, tiny.VOCABULARY, (4, 12), generator=generator)
    ids[:, 5:8] = torch.tensor([6, 16, 28]) + torch.randint(0, 8, (4, 3), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    labels = torch.where((torch.arange(12) >= 4) & (mask > 0), ids, -100)
    weights = torch.rand(4, 12, generator=generator) * (labels != -100)
    return TrainingTokens(ids, mask, labels, weights, torch.tensor(7.0), torch.arange(4))


def slow(model: torch.nn.Module, data: TrainingTokens, smoothing: float, levels: SidVocabulary | None) -> torch.Tensor:
    logits = model(input_ids=data.input_ids, attention_mask=data.attention_mask).logits
    total = torch.zeros(())
    for row, place in (data.labels[:, 1:] != -100).nonzero().tolist():
        target, scores = data.labels[row, place + 1], logits[row, place]
        for first, size in zip(levels.first_ids, levels.sizes, strict=True) if levels else ():
            if first <= target < first + size:
                target, scores = target - first, scores[first : first + size]
                break
        loss = F.cross_entropy(scores[None], target[None], label_smoothing=smoothing)
        total = total + data.weights[row, place + 1] * loss
    return total / data.responses


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("levels", [None, LEVELS])
def test_the_loss_and_its_gradient_are_those_of_a_slow_sum(smoothing: float, levels: SidVocabulary | None):
    model, data = tiny.tiny_model("qwen2"), batch()
    ours = next_token_loss(CausalPathModel(model), data, smoothing, levels)
    ours.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    theirs = slow(model, data, smoothing, levels)
    theirs.backward()
    torch.testing.assert_close(ours, theirs)
    for ours_, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(ours_, parameter.grad, atol=1e-5, rtol=1e-4)


def test_a_level_that_no_target_has_costs_nothing():
    model, data = tiny.tiny_model("llama"), batch()
    data.labels[(data.labels >= 28) & (data.labels < 36)] = -100
    data.weights[data.labels == -100] = 0.0
    torch.testing.assert_close(
        next_token_loss(CausalPathModel(model), data, 0.0, LEVELS), slow(model, data, 0.0, LEVELS)
    )


@pytest.mark.parametrize("levels", [None, LEVELS])
def test_many_logits_are_computed_part_by_part_with_the_same_loss_and_gradient(
    levels: SidVocabulary | None, monkeypatch: pytest.MonkeyPatch
):
    model, data = tiny.tiny_model("qwen2"), batch()
    weights = list(model.parameters())
    whole = next_token_loss(CausalPathModel(model), data, 0.1, levels)
    expected = torch.autograd.grad(whole, weights)
    sizes: list[int] = []
    model.lm_head.register_forward_hook(lambda _, inputs, output: sizes.append(output.shape[0]))
    monkeypatch.setattr(causal_paths, "_TRAINED_LOGITS_AT_ONCE", 3 * tiny.VOCABULARY)
    parts = next_token_loss(CausalPathModel(model), data, 0.1, levels)
    torch.testing.assert_close(parts, whole)
    once = len(sizes)
    for ours, theirs in zip(torch.autograd.grad(parts, weights), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert max(sizes) == 3
    assert len(sizes) == 2 * once > 4  # and again in the backward pass
    with torch.no_grad():
        torch.testing.assert_close(next_token_loss(CausalPathModel(model), data, 0.1, levels), whole)
