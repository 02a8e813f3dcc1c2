"""Products with ranges of rows, against the dense product, gradients included."""

from __future__ import annotations

import pytest
import torch

from dig.generation.intrr_paths import range_products

FIRST, COUNT = torch.tensor([0, 3, 8, 3, 1]), torch.tensor([3, 5, 0, 1, 2])


def test_values_and_gradients_are_those_of_the_dense_product():
    torch.manual_seed(0)
    states, table = torch.randn(5, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    weights = torch.randn(5, 6)
    found = range_products(states, table, FIRST, COUNT, 6)
    dense = states @ table.T
    expected = torch.stack(
        [
            torch.nn.functional.pad(row[first : first + count], (0, 6 - int(count)))
            for row, first, count in zip(dense, FIRST, COUNT, strict=True)
        ]
    )
    torch.testing.assert_close(found, expected)
    ours = torch.autograd.grad((found * weights).sum(), [states, table])
    theirs = torch.autograd.grad((expected * weights).sum(), [states, table])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_nothing_at_all():
    states, table = torch.randn(2, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    found = range_products(states, table, torch.tensor([0, 3]), torch.tensor([0, 0]), 3)
    assert torch.equal(found, torch.zeros(2, 3))
    found.sum().backward()
    assert not states.grad.any() and not table.grad.any()


def test_rows_that_are_not_there_are_refused():
    """Sparse products would read behind the table."""
    for first, count in ((8, 2), (-1, 1)):
        with pytest.raises(IndexError, match="rows that the table lacks"):
            range_products(torch.zeros(1, 4), torch.zeros(9, 4), torch.tensor([first]), torch.tensor([count]), 2)


def test_half_precision_is_computed_in_float32():
    states, table = torch.randn(5, 4).bfloat16().requires_grad_(), torch.randn(9, 4).requires_grad_()
    found = range_products(states, table, FIRST, COUNT, 5)
    torch.testing.assert_close(found, range_products(states.float(), table, FIRST, COUNT, 5))
    found.sum().backward()
    assert states.grad.dtype == torch.bfloat16 and table.grad.dtype == torch.float32
