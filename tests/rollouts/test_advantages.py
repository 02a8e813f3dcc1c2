"""Advantages by hand: by group, by batch, unscaled, and term by term."""

from __future__ import annotations

import math

import pytest
import torch

from dig.rollouts import group_advantages, term_advantages
from dig.rollouts.advantages import has_variance

REWARDS = torch.tensor([[1.0, 3.0], [0.0, 0.0], [5.0, 1.0]])


def test_without_a_scale_rewards_are_centred_alone():
    assert group_advantages(REWARDS, scale="none").tolist() == [[-1, 1], [0, 0], [2, -2]]


def test_over_the_deviation_of_the_batch():
    deviation = math.sqrt((1 + 1 + 0 + 0 + 4 + 4) / 6)
    expected = torch.tensor([[-1.0, 1.0], [0.0, 0.0], [2.0, -2.0]]) / (deviation + 0.5)
    torch.testing.assert_close(group_advantages(REWARDS, 0.5, "batch"), expected)


def test_the_deviation_of_the_batch_is_that_over_all_ranks():
    parts = REWARDS[:2], REWARDS[1:]  # two ranks with a group in common
    square = sum(group_advantages(part, scale="none").square().mean() for part in parts) / 2
    together = group_advantages(torch.cat(parts), scale="batch")
    apart = [group_advantages(part, scale="batch", over_ranks=lambda _: square) for part in parts]
    torch.testing.assert_close(torch.cat(apart), together)


def test_terms_apart_weigh_alike_however_much_each_varies():
    terms = {"hit": torch.tensor([[0.0, 100.0]]), "prefix": torch.tensor([[0.02, 0.01]])}
    found = term_advantages(terms, {"hit": 1.0, "prefix": 0.5})
    torch.testing.assert_close(found, torch.tensor([[-1.0 + 0.5, 1.0 - 0.5]]), atol=1e-3, rtol=0)
    together = group_advantages(torch.stack(list(terms.values())).sum(dim=0))
    torch.testing.assert_close(together, torch.tensor([[-1.0, 1.0]]), atol=1e-3, rtol=0)


def test_a_group_teaches_as_soon_as_any_term_varies():
    terms = {"hit": torch.zeros(1, 3), "prefix": torch.tensor([[0.0, 0.1, 0.1]])}
    assert has_variance(term_advantages(terms, {"hit": 1.0, "prefix": 0.2})).tolist() == [True]
    assert has_variance(REWARDS).tolist() == [True, False, True]


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="not by 'std'"):
        group_advantages(REWARDS, scale="std")
