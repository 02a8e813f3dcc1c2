"""Even assignment against the exact transport problem, and Sinkhorn's prices against their definition."""

import sys

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from dig.quantization.sinkhorn import assign_evenly, sinkhorn


def costs(points: int = 60, codes: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(points, 3, generator=generator) + torch.tensor([2.0, 0.0, 0.0])
    return torch.cdist(first, torch.randn(codes, 3, generator=generator)).square()


def test_prices_give_every_code_the_same_mass():
    matrix = costs()
    prices = sinkhorn(matrix, epsilon=0.1, iterations=500)
    scale = 0.1 * (matrix - matrix.amin(dim=1, keepdim=True)).mean()
    mass = torch.softmax(-(matrix + prices) / scale, dim=1).sum(dim=0)
    torch.testing.assert_close(mass, torch.full((6,), 10.0), rtol=1e-3, atol=0)
    assert float(prices.mean()) == pytest.approx(0.0, abs=1e-5)


def test_prices_do_not_depend_on_the_offset_of_a_point_and_scale_with_the_costs():
    matrix = costs()
    prices = sinkhorn(matrix, 0.1, 100)
    torch.testing.assert_close(sinkhorn(matrix + torch.arange(60.0)[:, None], 0.1, 100), prices, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sinkhorn(matrix * 7, 0.1, 100), prices * 7, rtol=1e-3, atol=1e-3)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    whole = sinkhorn(costs(), 0.1, 50)
    monkeypatch.setattr(sys.modules["dig.quantization.sinkhorn"], "_CHUNK_ELEMENTS", 30)
    torch.testing.assert_close(sinkhorn(costs(), 0.1, 50), whole)


def test_parts_of_the_points_on_several_ranks_give_the_prices_of_all():
    matrix = costs(40)
    halves, sums = matrix.split(20), []

    def run(part: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """One rank whose collective adds what the other, in the same state, would have contributed."""
        state = {"prices": None}

        def reduce(tensor: torch.Tensor) -> None:
            if tensor.dtype == torch.float64:
                tensor += torch.tensor(
                    [(other - other.amin(dim=1, keepdim=True)).sum(), other.numel()], dtype=tensor.dtype
                )
                state["scale"] = float(tensor[0] / tensor[1]) * 0.1
                state["prices"] = torch.zeros(6)
                return
            tensor += torch.softmax(-other / state["scale"] - state["prices"], dim=1).sum(dim=0)
            state["prices"] = state["prices"] + (tensor / tensor.mean()).clamp_min(1e-9).log()

        return sinkhorn(part, 0.1, 60, reduce)

    sums = [run(halves[0], halves[1]), run(halves[1], halves[0])]
    torch.testing.assert_close(sums[0], sums[1])
    torch.testing.assert_close(sums[0], sinkhorn(matrix, 0.1, 60), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("points", "codes"), [(60, 6), (61, 6), (5, 8), (1, 3), (256, 16)])
def test_no_code_has_more_than_its_share(points: int, codes: int):
    chosen = assign_evenly(costs(points, codes))
    assert torch.bincount(chosen, minlength=codes).max() <= -(-points // codes)


def test_equal_costs_are_spread_too():
    assert torch.bincount(assign_evenly(torch.zeros(12, 4)), minlength=4).tolist() == [3, 3, 3, 3]


def test_the_total_cost_is_near_the_optimum():
    matrix = costs(200, 20)
    slots = matrix.repeat_interleave(10, dim=1).numpy()
    rows, columns = linear_sum_assignment(slots)
    found = float(matrix.gather(1, assign_evenly(matrix)[:, None]).sum())
    best = float(slots[rows, columns].sum())
    assert best * (1 - 1e-5) <= found <= 1.06 * best
