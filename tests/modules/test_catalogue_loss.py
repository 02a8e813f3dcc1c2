"""Cross-entropy over a catalogue: value and gradients of the plain computation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dig.modules.losses import catalogue_cross_entropy


def both(states: int, dtype: torch.dtype = torch.float64) -> list[tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    x, table = torch.randn(states, 7, dtype=dtype), torch.randn(50, 7, dtype=dtype)
    targets = torch.randint(50, (states,))
    found = []
    for loss in (catalogue_cross_entropy, lambda x, table, targets: F.cross_entropy(x @ table.T, targets)):
        of = [part.clone().requires_grad_() for part in (x, table)]
        value = loss(*of, targets)
        (3 * value).backward()
        found.append((value.detach(), *(part.grad for part in of)))
    return found


@pytest.mark.parametrize("states", [1, 127, 128, 300])
def test_equals_the_plain_computation(states: int):
    for ours, plain in zip(*both(states), strict=True):
        torch.testing.assert_close(ours.double(), plain, atol=1e-6, rtol=1e-5)


def test_in_autocast_the_products_are_rounded_and_the_sums_are_not():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = both(200, torch.float32)[0]
    for ours, plain in zip(rounded, both(200, torch.float32)[1], strict=True):
        assert ours.dtype == plain.dtype
        assert (ours - plain).norm() < 0.02 * plain.norm()


def test_large_logits_do_not_overflow():
    states = torch.full((1, 1), 1e4, requires_grad=True)
    loss = catalogue_cross_entropy(states, torch.tensor([[1.0], [-1.0]]), torch.tensor([1]))
    assert float(loss.detach()) == pytest.approx(2e4)


def test_of_nothing_it_is_nothing():
    states = torch.zeros(0, 7, requires_grad=True)
    loss = catalogue_cross_entropy(states, torch.randn(5, 7), torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert float(loss.detach()) == 0.0 and states.grad.shape == (0, 7)
