"""Intra-list diversity against the mean over pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from dig.evaluation.measures import CatalogueFacts, IntraListDiversity

CATEGORIES = [["all", "a", "b"], ["all", "a"], ["all", "c", "a", "b"], None, ["all", "d"], [], ["all", "d", "d"]]
FACTS = CatalogueFacts.of(np.ones(7), 3, CATEGORIES)


def cosine(one: int, other: int) -> float:
    first, second = ({name for name in CATEGORIES[item] or () if name != "all"} for item in (one, other))
    return len(first & second) / (len(first) * len(second)) ** 0.5


def obvious(rankings: list[list[int]], k: int) -> float:
    found = []
    for ranking in rankings:
        known = [item for item in ranking[:k] if item >= 0 and CATEGORIES[item]]
        pairs = list(combinations(known, 2))
        if pairs:
            found.append(1 - sum(cosine(*pair) for pair in pairs) / len(pairs))
    return sum(found) / len(found)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_is_one_minus_the_mean_cosine_of_pairs(k: int):
    rankings = [[0, 1, 2, 3, 4], [4, 6, 0, -1, -1], [3, 5, 1, -1, -1], [2, 4, 3, 0, 6]]
    metric = IntraListDiversity(k, FACTS)
    metric.update(torch.tensor(rankings[:1]))
    metric.update(torch.tensor(rankings[1:]))
    assert float(metric.compute()) == pytest.approx(obvious(rankings, k), abs=1e-7)


def test_extremes():
    alike, apart = IntraListDiversity(2, FACTS), IntraListDiversity(2, FACTS)
    alike.update(torch.tensor([[4, 6]]))
    apart.update(torch.tensor([[1, 4]]))
    assert float(alike.compute()) == pytest.approx(0.0) and float(apart.compute()) == 1.0


def test_without_categories_there_is_none():
    for unknown in (None, [None, []], [["all"], ["all"]]):  # what all are of tells nothing
        with pytest.raises(ValueError, match="categories"):
            IntraListDiversity(2, CatalogueFacts.of(np.ones(2), 1, unknown))
    metric = IntraListDiversity(3, FACTS)
    metric.update(torch.tensor([[3, 5, 0]]))
    assert torch.isnan(metric.compute())
