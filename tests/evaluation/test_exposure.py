"""Coverage, Gini, novelty and popularity lift against closed forms and loops, whole and in parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dig.evaluation.measures import CatalogueFacts, Coverage, Gini, Novelty, PopularityLift

COUNTS = np.array([8, 4, 2, 1, 0, 1])
FACTS = CatalogueFacts.of(COUNTS, users=8)
RANKED = torch.tensor([[0, 1, 5], [0, 2, -1], [4, 0, 3]])


def value(metric, *arguments: torch.Tensor) -> float:
    metric.update(*arguments)
    return float(metric.compute())


def test_coverage_counts_what_anybody_sees_among_the_first_k():
    assert value(Coverage(2, FACTS), RANKED) == pytest.approx(4 / 6)
    assert value(Coverage(3, FACTS), RANKED) == 1.0


def test_gini_of_the_extremes_and_against_the_mean_difference():
    even = torch.arange(6).unsqueeze(1)
    assert value(Gini(1, FACTS), even) == pytest.approx(0.0)
    assert value(Gini(1, FACTS), torch.zeros(50, 1, dtype=torch.int64)) == pytest.approx(5 / 6)
    exposure = np.bincount(RANKED.flatten()[RANKED.flatten() >= 0], minlength=6)
    pairs = np.abs(exposure[:, None] - exposure[None]).sum()
    assert value(Gini(3, FACTS), RANKED) == pytest.approx(pairs / (2 * 6 * exposure.sum()))


def test_novelty_is_the_mean_self_information_in_bits():
    shown = [0, 1, 5, 0, 2, 4, 0, 3]
    bits = [-math.log2(max(COUNTS[item], 1) / 8) for item in shown]
    assert value(Novelty(3, FACTS), RANKED) == pytest.approx(sum(bits) / len(bits))


def test_novelty_counts_people_and_not_purchases():
    facts = CatalogueFacts.of(np.array([6, 1]), users=4, buyers=np.array([2, 1]))
    assert value(Novelty(2, facts), torch.tensor([[0, 1]])) == pytest.approx((1 + 2) / 2)


def test_popularity_lift_compares_with_what_the_same_users_bought():
    histories = torch.tensor([[0, 1], [3, -1], [2, 0]])
    shown = np.mean([COUNTS[item] for item in (0, 1, 5, 0, 2, 4, 0, 3)])
    bought = np.mean([COUNTS[item] for item in (0, 1, 3, 2, 0)])
    assert value(PopularityLift(3, FACTS), RANKED, histories) == pytest.approx(shown / bought - 1)
    assert value(PopularityLift(1, FACTS), torch.tensor([[0]]), torch.tensor([[0, 0]])) == 0.0


@pytest.mark.parametrize("kind", [Coverage, Gini, Novelty])
def test_parts_add_up_to_the_last_digit(kind: type):
    ranked = torch.randint(-1, 6, (40, 4), generator=torch.Generator().manual_seed(0))
    whole, parts = kind(3, FACTS), kind(3, FACTS)
    whole.update(ranked)
    for part in ranked.split([1, 20, 19]):
        parts.update(part)
    assert torch.equal(whole.compute(), parts.compute())
