"""Codebook metrics against closed forms."""

import math

import pytest
import torch

from dig.evaluation.codebook import collision_rate, largest_collision, perplexity, usage
from dig.quantization import SemanticIds


def test_even_use_has_the_size_as_perplexity():
    codes = torch.cartesian_prod(torch.arange(4), torch.arange(8))
    assert usage(codes, [4, 8]).tolist() == [1.0, 1.0]
    assert perplexity(codes, [4, 8]).tolist() == pytest.approx([4.0, 8.0])
    assert collision_rate(codes) == 0.0
    assert largest_collision(codes) == 1


def test_collapse():
    codes = torch.zeros(10, 2, dtype=torch.int64)
    assert usage(codes, [4, 8]).tolist() == [0.25, 0.125]
    assert perplexity(codes, [4, 8]).tolist() == [1.0, 1.0]
    assert collision_rate(codes) == 1.0
    assert largest_collision(codes) == 10


def test_uneven_use():
    codes = torch.tensor([[0], [0], [0], [2]])
    assert usage(codes, [5]).tolist() == [0.4]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert perplexity(codes, [5]).tolist() == pytest.approx([math.exp(entropy)])


def test_collisions_count_items_not_codes():
    codes = torch.tensor([[1, 1], [1, 2], [1, 1], [1, 1], [2, 1]])
    assert collision_rate(codes) == pytest.approx(3 / 5)
    assert largest_collision(codes) == 3


def test_a_missing_suffix_counts_for_nothing():
    ids = SemanticIds.from_codes(["a", "b", "c", "d"], torch.tensor([[0], [0], [1], [2]]), [4])
    assert ids.codes[:, 1].tolist() == [0, 1, -1, -1]
    assert usage(ids.codes, ids.sizes).tolist() == [0.75, 1.0]
    assert perplexity(ids.codes, ids.sizes)[1] == pytest.approx(2.0)
    assert collision_rate(ids.codes[:, :1]) == ids.collision_rate == 0.5


def test_an_empty_catalogue():
    nothing = torch.zeros(0, 2, dtype=torch.int64)
    assert usage(nothing, [2, 2]).tolist() == [0.0, 0.0]
    assert collision_rate(nothing) == 0.0
    assert largest_collision(nothing) == 0


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="zip"):
        usage(torch.zeros(3, 2, dtype=torch.int64), [4])
