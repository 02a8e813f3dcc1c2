"""Every reward term on rollouts small enough to judge by hand."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dig.config import UserError
from dig.config.schema import RewardConfig
from dig.rollouts import REWARD_TERMS, RewardContext, Rollouts

# Items 0 and 1 are duplicates: the same codes, told apart by a suffix that no term sees.
CODES = torch.tensor([[1, 2, 3], [1, 2, 3], [1, 2, 0], [1, 0, 3], [0, 2, 3]])
QUALITY = torch.tensor([0.8, 0.3, 1.0, 0.0, 0.5])
VECTORS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0], [0.0, 0.0]])


class Fixed(nn.Module):
    """A sequential model that always thinks the same."""

    def forward(self, histories: Tensor) -> Tensor:
        return torch.tensor([0.5, 0.25, 0.125, 0.125, 0.0]).log().expand(len(histories), -1)


def groups(items: list[list[int]], targets: list[int], **given: Any) -> Rollouts:
    found = torch.tensor(items)
    surest_first = -torch.arange(found.shape[1]).float().expand(found.shape)
    facts = {"log_probs": surest_first, "histories": torch.tensor([[-1, 0]]).expand(len(items), -1)} | given
    return Rollouts.of_items(found, torch.tensor(targets), **facts)


def term(name: str, rollouts: Rollouts, **facts: Any) -> list[list[float]]:
    found = REWARD_TERMS[name].function(rollouts, RewardContext(**facts))
    assert found.shape == rollouts.items.shape and found.dtype == torch.float32
    return [[round(value, 5) for value in row] for row in found.tolist()]


def test_every_weight_of_the_settings_is_that_of_a_term_and_every_term_has_one():
    """A field that is added is a weight: none is left out in silence."""
    ours = {name for name, each in REWARD_TERMS.items() if each.function.__module__.startswith("dig.")}
    others = {"extra", "modules", "combine"}
    assert {entry.name for entry in fields(RewardConfig)} - others == RewardConfig().weights.keys() == ours
    assert list(RewardConfig(extra={"own": 2.0}).weights) == [*RewardConfig().weights, "own"]
    with pytest.raises(UserError, match=r"grpo\.reward\.extra\.unseen is a term of its own: set grpo\.reward\.unseen"):
        RewardConfig(extra={"unseen": 1.0})


def test_hit_pays_the_target_and_neither_duplicate_nor_neighbour():
    assert term("hit", groups([[0, 1, 2, -1], [1, 0, 4, 4]], [0, 4])) == [[1, 0, 0, 0], [0, 0, 1, 1]]


def test_valid_pays_catalogue_items():
    assert term("valid", groups([[0, 4, -1]], [0])) == [[1, 1, 0]]


def test_prefix_counts_leading_codes_and_stops_at_the_first_difference():
    expected = [[1, 1, round(2 / 3, 5), round(1 / 3, 5), 0, 0]]
    assert term("prefix", groups([[0, 1, 2, 3, 4, -1]], [0]), codes=CODES) == expected


def test_interest_pays_the_targets_quality_on_a_hit_alone():
    rollouts = groups([[0, 1, -1], [1, 0, 3], [3, 2, 1]], [0, 1, 3])
    expected = [[0.8, 0, 0], [0.3, 0, 0], [0, 0, 0]]  # the quality of a hit is its own, and a miss has none
    assert term("interest", rollouts, quality=QUALITY) == expected


def test_similarity_is_the_cosine_of_interests_times_the_targets_quality():
    rollouts = groups([[0, 1, 2, 3, 4, -1], [0, 2, 1, 4, 3, 3]], [0, 4])
    expected = [[0.8, 0, 0.48, 0, 0, 0], [0] * 6]  # opposite interests cost nothing; without interests none are alike
    assert term("similarity", rollouts, quality=QUALITY, interests=VECTORS) == expected


def test_rank_penalises_misses_by_their_place_in_groups_that_hold_the_target():
    weights = [1 / math.log2(place + 2) for place in range(4)]
    cost = [round(-weight / sum(weights), 5) for weight in weights]
    assert term("rank", groups([[2, 0, 3, 4]], [0])) == [[cost[0], 0, cost[2], cost[3]]]
    assert term("rank", groups([[2, 1, 3, 4]], [0])) == [[0, 0, 0, 0]]  # nothing to learn the order from
    by_probability = torch.tensor([[-3.0, -1.0, -2.0, -4.0]])
    found = term("rank", groups([[2, 3, 0, 4]], [0], log_probs=by_probability))
    assert found == [[cost[2], cost[0], 0, cost[3]]]


def test_the_same_item_drawn_twice_has_one_rank():
    log_probs = torch.tensor([[-2.0, -1.0, -1.0, -3.0]])
    assert groups([[2, 3, 3, 0]], [0], log_probs=log_probs).ranks.tolist() == [[1, 0, 0, 2]]


def test_collaborative_is_the_models_log_probability_between_a_guess_and_certainty():
    rollouts = groups([[0, 1, 2, 4, -1], [0, 1, 2, 4, 3]], [0, 0], histories=torch.tensor([[-1, 3], [-1, -1]]))
    of = [round(1 + math.log(p) / math.log(5), 5) for p in (0.5, 0.25, 0.125)]
    assert term("collaborative", rollouts, sequential=Fixed()) == [[*of, -1, 0], [0] * 5]  # -1: it excludes the item
    assert 1 + math.log(1 / 5) / math.log(5) == pytest.approx(0)


def test_diversity_is_the_distance_from_the_latest_item():
    rollouts = groups([[0, 1, 2, 3, -1]] * 2, [0, 0], histories=torch.tensor([[1, 0], [-1, -1]]))
    assert term("diversity", rollouts, vectors=VECTORS) == [[0, 1, 0.4, 2, 0], [0] * 5]


def test_novelty_is_paid_outside_the_most_popular_tenth():
    counts = torch.arange(20)  # items 18 and 19 are that tenth
    assert term("novelty", groups([[19, 18, 17, 0, -1]], [0]), counts=counts) == [[0, 0, 1, 1, 0]]


def test_unseen_is_paid_for_what_the_history_does_not_hold():
    histories = torch.tensor([[-1, 0, 3], [-1, -1, -1]])
    assert term("unseen", groups([[0, 1, 3, 4, -1]] * 2, [4, 4], histories=histories)) == [
        [0, 1, 0, 1, 0],
        [1, 1, 1, 1, 0],
    ]


@pytest.mark.parametrize("name", sorted(REWARD_TERMS))
def test_a_term_says_what_it_needs(name: str):
    needs = REWARD_TERMS[name].requires
    everything = {
        "codes": CODES,
        "quality": QUALITY,
        "interests": VECTORS,
        "vectors": VECTORS,
        "counts": torch.ones(5),
        "sequential": Fixed(),
    }
    rollouts = groups([[0, 1, 2]], [0])
    term(name, rollouts, **{need: everything[need] for need in needs})
    for missing in needs:
        with pytest.raises(KeyError, match=missing):
            term(name, rollouts, **{need: everything[need] for need in needs - {missing}})
