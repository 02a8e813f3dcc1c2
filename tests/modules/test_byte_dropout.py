"""Dropout by bytes: the rate, the mean, the gradient, and nothing of it in evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dig.modules.dropout import ByteDropout, replace_dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_drops_as_often_as_asked_and_keeps_the_mean(probability: float, dtype: torch.dtype):
    torch.manual_seed(0)
    found = ByteDropout(probability)(torch.ones(1000, 203, dtype=dtype))
    dropped = round(256 * probability) / 256
    # 203,000 draws: four standard deviations of a rate are below .0045
    assert abs((found == 0).float().mean().item() - dropped) < 4.5e-3
    assert found.dtype == dtype
    kept = found[found != 0].float()
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - dropped)), atol=0.0, rtol=5e-3)


def test_every_byte_of_a_draw_is_even():
    torch.manual_seed(0)
    found = ByteDropout(0.5)(torch.ones(8 * 20_000)).view(-1, 8)
    assert ((found == 0).float().mean(dim=0) - 0.5).abs().max() < 0.015  # four standard deviations of 20,000 draws
    together = torch.corrcoef((found == 0).float().T).fill_diagonal_(0)
    assert together.abs().max() < 0.03


def test_the_gradient_is_that_of_the_values_kept():
    values = torch.ones(64, 9, requires_grad=True)
    found = ByteDropout(0.3)(values)
    found.sum().backward()
    torch.testing.assert_close(values.grad, found.detach())


def test_the_seed_decides():
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(ByteDropout(0.5)(torch.ones(50)))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("layer", [ByteDropout(0.5).eval(), ByteDropout(0.0), ByteDropout(0.001)])
def test_evaluation_and_a_probability_of_nothing_change_nothing(layer: ByteDropout):
    values = torch.randn(7)
    assert layer(values) is values


def test_a_probability_of_one_in_a_thousand_more_keeps_something():
    torch.manual_seed(0)
    assert (ByteDropout(0.9999)(torch.ones(100_000)) != 0).any()


def test_replaces_every_dropout_and_no_weight():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.2), nn.Sequential(nn.Dropout(0.4), nn.Linear(4, 4)))
    names = list(model.state_dict())
    replace_dropout(model)
    assert [child.probability for child in model.modules() if isinstance(child, ByteDropout)] == [0.2, 0.4]
    assert not any(isinstance(child, nn.Dropout) for child in model.modules())
    assert list(model.state_dict()) == names
    assert model.training and (model(torch.randn(50, 4)) != 0).any()
