"""Every term of the interest-aware reward, by hand."""

from __future__ import annotations

import pytest
import torch

from dig.config.schema import RewardConfig
from dig.rollouts import interest_aware_reward
from dig.rollouts.rewards import shared_prefix

# Items 0 and 1 are twins: the same codes, told apart by a suffix that the reward does not see.
CODES = torch.tensor([[1, 2, 3], [1, 2, 3], [1, 2, 0], [1, 0, 3], [0, 2, 3]])
QUALITY = torch.tensor([0.8, 0.3, 1.0, 0.0, 0.5])
WEIGHTS = RewardConfig(hit=1.0, valid=0.1, prefix=0.6, interest=0.5)


def reward(items: list[int], target: int, weights: RewardConfig = WEIGHTS) -> torch.Tensor:
    return interest_aware_reward(torch.tensor([items]), torch.tensor([target]), CODES, QUALITY, weights).total[0]


@pytest.mark.parametrize(
    ("item", "target", "expected"),
    [
        (0, 0, 1.0 + 0.1 + 0.6 + 0.5 * 0.8),  # a hit
        (1, 0, 0.1 + 0.6),  # its twin: the whole prefix, no hit
        (2, 0, 0.1 + 0.6 * 2 / 3),  # two codes
        (3, 0, 0.1 + 0.6 * 1 / 3),  # codes agree again behind a difference: they do not count
        (4, 0, 0.1),  # a valid miss
        (-1, 0, 0.0),  # no item
        (1, 1, 1.0 + 0.1 + 0.6 + 0.5 * 0.3),  # a hit of low quality
        (3, 3, 1.0 + 0.1 + 0.6),  # a hit of no quality
        (2, 3, 0.1 + 0.6 * 1 / 3),  # the quality of another item is not paid
    ],
)
def test_every_case_by_hand(item: int, target: int, expected: float):
    assert reward([item], target).item() == pytest.approx(expected, abs=1e-6)


def test_terms_are_weighted_apart_and_add_up():
    items, targets = torch.tensor([[0, 1, -1], [4, 2, 2]]), torch.tensor([0, 2])
    found = interest_aware_reward(items, targets, CODES, QUALITY, WEIGHTS)
    expected = {
        "hit": [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]],
        "valid": [[0.1, 0.1, 0.0], [0.1, 0.1, 0.1]],
        "prefix": [[0.6, 0.6, 0.0], [0.0, 0.6, 0.6]],
        "interest": [[0.4, 0.0, 0.0], [0.0, 0.5, 0.5]],
    }
    assert set(found.terms) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found.terms[name], torch.tensor(value))
    torch.testing.assert_close(found.total, torch.tensor(list(expected.values())).sum(dim=0))


def test_each_target_has_its_own_row():
    items = torch.tensor([[0, 2], [0, 2]])
    found = interest_aware_reward(items, torch.tensor([0, 2]), CODES, QUALITY, RewardConfig(prefix=0.0, interest=0.0))
    assert found.total.tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_quality_that_is_no_number_is_refused_by_item(value: float):
    quality = QUALITY.clone()
    quality[3] = value
    with pytest.raises(ValueError, match="item row 3"):
        interest_aware_reward(torch.tensor([[0]]), torch.tensor([0]), CODES, quality, WEIGHTS)


def test_shared_prefix_counts_leading_codes():
    assert shared_prefix(CODES, CODES[0]).tolist() == [3, 3, 2, 1, 0]
