"""Neighbour recall and purity against counting by hand."""

from itertools import combinations

import numpy as np
import pytest
import torch

from dig.evaluation.codebook import neighbour_recall, prefix_purity

CODES = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 0], [1, 1], [2, 0]])


def test_equals_counting_over_all_pairs():
    left, right, counts = np.array([0, 0, 3, 2]), np.array([1, 2, 4, 5]), np.array([3, 1, 2, 4])
    found = neighbour_recall(CODES, left, right, counts)
    same = [
        [bool((CODES[a, : level + 1] == CODES[b, : level + 1]).all()) for a, b in zip(left, right, strict=True)]
        for level in range(2)
    ]
    assert found.share.tolist() == pytest.approx([np.average(level, weights=counts) for level in same])
    mass = np.zeros(6)
    for a, b, count in zip(left, right, counts, strict=True):
        mass[[a, b]] += count / (2 * counts.sum())
    pairs = list(combinations(range(6), 2))
    total = sum(mass[a] * mass[b] for a, b in pairs)
    for level in range(2):
        alike = sum(mass[a] * mass[b] for a, b in pairs if (CODES[a, : level + 1] == CODES[b, : level + 1]).all())
        assert found.chance[level] == pytest.approx(alike / total)
    np.testing.assert_allclose(found.lift, found.share / found.chance)


def test_codes_that_know_nothing_have_a_lift_of_one():
    generator = np.random.default_rng(0)
    codes = torch.from_numpy(generator.integers(0, 4, (400, 2)))
    left = generator.integers(0, 400, 60_000)
    right = (left + generator.integers(1, 400, 60_000)) % 400
    assert neighbour_recall(codes, left, right).lift == pytest.approx([1, 1], abs=0.1)


def test_codes_that_never_coincide_have_no_lift():
    found = neighbour_recall(torch.arange(4)[:, None], np.array([0]), np.array([1]))
    assert np.isnan(found.lift).all()


def test_no_pair_is_an_error():
    with pytest.raises(ValueError, match="at least one pair"):
        neighbour_recall(CODES, np.array([], int), np.array([], int))


def test_purity_counts_branches_with_company_only():
    categories = ["a", "a", "b", "a", None, "c"]
    # first level: branch 0 holds a, a, b (2 of 3); branch 1 holds a alone, its other item has no category; c is alone
    assert prefix_purity(CODES, categories).tolist() == pytest.approx([2 / 3, 1.0])


def test_purity_without_categories_is_nothing():
    assert np.isnan(prefix_purity(CODES, [None] * 6)).all()
