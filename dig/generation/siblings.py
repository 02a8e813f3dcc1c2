"""Products of states with some rows of a table each: what children of a node are scored by, without all others."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

__all__ = ["range_products"]


def range_products(states: Tensor, table: Tensor, first: Tensor, count: Tensor, width: int) -> Tensor:
    """Inner products of each state with the neighbouring rows of a table that belong to it.

    Products and gradients are sparse, so that neither the states times the table nor the rows of every state are ever
    held. They are computed in float32.

    Args:
        states: (n, width of states).
        table: (rows, width of states).
        first: (n,) the first row of each state.
        count: (n,) its rows.
        width: the most of ``count``, or more.

    Returns:
        (n, width) float32, 0 behind the rows of a state.

    Raises:
        IndexError: a state has a row that the table lacks.
    """
    if bool(((first < 0) | (first + count > len(table))).any()):
        raise IndexError("a state has rows that the table lacks")
    found: Tensor = _RangeProducts.apply(states, table, first.long(), count.long(), width)
    return found


class _RangeProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, first: Tensor, count: Tensor, width: int) -> Tensor:
        ctx.save_for_backward(states, table, first, count)  # all else is a matter of counting, and larger than these
        rows, owners, places = _places(count)
        padded = torch.zeros(len(states), width, device=states.device)
        if len(owners):
            pattern = _csr(rows, first[owners] + places, torch.zeros(len(owners), device=states.device), table)
            found = torch.sparse.sampled_addmm(pattern, states.float(), table.float().T, beta=0.0)
            padded[owners, places] = found.values()
        return padded

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        states, table, first, count = ctx.saved_tensors
        rows, owners, places = _places(count)
        if not len(owners):
            return torch.zeros_like(states), torch.zeros_like(table), None, None, None
        values, columns = grads[0][owners, places].float(), first[owners] + places
        of_states = _csr(rows, columns, values, table) @ table.float()
        turned = torch.sparse_coo_tensor(torch.stack([columns, owners]), values, (len(table), len(states)),
                                         check_invariants=False)  # fmt: skip
        of_table = turned @ states.float()
        return of_states.to(states.dtype), of_table.to(table.dtype), None, None, None


def _places(count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the products of each state begin, and each product's state and place among that state's."""
    rows = torch.cat([count.new_zeros(1), count.cumsum(dim=0)])
    owners = torch.repeat_interleave(count)
    return rows, owners, torch.arange(len(owners), device=owners.device) - rows[owners]


def _consume_warning() -> None:
    """torch says once a process that sparse rows are young; what is used of them here is held to dense products."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _csr(torch.tensor([0, 1]), torch.tensor([0]), torch.zeros(1), torch.zeros(1, 1))


def _csr(rows: Tensor, columns: Tensor, values: Tensor, table: Tensor) -> Tensor:
    return torch.sparse_csr_tensor(rows, columns, values, (len(rows) - 1, len(table)), check_invariants=False)


_consume_warning()
