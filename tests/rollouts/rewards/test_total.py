"""The weighted sum of terms, terms of one's own, and rewards that are no numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from dig.rollouts.rewards import REWARD_TERMS, Groups, ItemKnowledge, reward_term, total_reward


def rollouts(items: list[list[int]], targets: list[int]) -> Groups:
    found = torch.tensor(items)
    return Groups(found, torch.tensor(targets), torch.zeros(found.shape), torch.zeros(len(items), 1, dtype=torch.long))


@pytest.fixture(autouse=True)
def own_terms() -> Iterator[None]:
    before = dict(REWARD_TERMS)
    yield
    REWARD_TERMS.clear()
    REWARD_TERMS.update(before)


def test_terms_are_weighted_and_those_without_weight_are_not_asked():
    @reward_term("forbidden")
    def forbidden(groups: Groups, known: ItemKnowledge) -> Tensor:
        raise AssertionError

    found = total_reward(rollouts([[0, 1, -1]], [0]), ItemKnowledge(), {"hit": 2.0, "valid": 0.5, "forbidden": 0.0})
    assert set(found.terms) == {"hit", "valid"}
    assert found.terms["hit"].tolist() == [[2.0, 0.0, 0.0]] and found.terms["valid"].tolist() == [[0.5, 0.5, 0.0]]
    assert found.total.tolist() == [[2.5, 0.5, 0.0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_names_the_term_and_the_item(value: float):
    @reward_term("broken")
    def broken(groups: Groups, known: ItemKnowledge) -> Tensor:
        return torch.where(groups.items == 2, value, 0.0)

    known = ItemKnowledge(item_ids=["a", "b", "c"])
    with pytest.raises(ValueError, match=f"term broken is {value} for item c where item b was wanted"):
        total_reward(rollouts([[0, 1], [0, 2]], [0, 1]), known, {"hit": 1.0, "broken": 0.1})
    with pytest.raises(ValueError, match="item row 2 where item row 1"):
        total_reward(rollouts([[0, 1], [0, 2]], [0, 1]), ItemKnowledge(), {"broken": 1.0})


def test_a_term_of_another_shape_is_refused():
    @reward_term("flat")
    def flat(groups: Groups, known: ItemKnowledge) -> Tensor:
        return groups.hits.float().mean(dim=1)

    with pytest.raises(ValueError, match=r"flat is \(2,\), but the rollouts are \(2, 2\)"):
        total_reward(rollouts([[0, 1], [0, 2]], [0, 1]), ItemKnowledge(), {"flat": 1.0})


def test_names_are_taken_once_and_needs_are_known():
    with pytest.raises(ValueError, match="there is a reward term hit already"):

        @reward_term("hit")
        def another(groups: Groups, known: ItemKnowledge) -> Tensor:
            return groups.hits.float()

    with pytest.raises(ValueError, match="needs 'colour'"):
        reward_term("colourful", needs=("colour",))


def test_knowledge_is_neither_saved_nor_trained():
    known = ItemKnowledge(codes=torch.zeros(3, 2), sequential=torch.nn.Linear(2, 3))
    assert not known.state_dict() and not list(known.parameters())
    assert known.sequential is not None and not any(p.requires_grad for p in known.sequential.parameters())
    assert known.has("codes") and not known.has("vectors")
