"""The interest-aware reward by hand, the weighted sum of terms, terms of one's own, and rewards that are not finite."""

from __future__ import annotations

import importlib
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dig.config.schema import RewardConfig
from dig.rollouts import (
    REWARD_TERMS,
    Reward,
    RewardContext,
    Rollouts,
    interest_aware_reward,
    reward_term,
    rewards,
    total_reward,
)
from dig.rollouts.rewards import shared_prefix

# Items 0 and 1 are duplicates: the same codes, told apart by a suffix that the reward does not see.
CODES = torch.tensor([[1, 2, 3], [1, 2, 3], [1, 2, 0], [1, 0, 3], [0, 2, 3]])
QUALITY = torch.tensor([0.8, 0.3, 1.0, 0.0, 0.5])
WEIGHTS = RewardConfig(hit=1.0, valid=0.1, prefix=0.6, interest=0.5)


def reward(items: list[int], target: int, weights: RewardConfig = WEIGHTS) -> torch.Tensor:
    return interest_aware_reward(torch.tensor([items]), torch.tensor([target]), CODES, QUALITY, weights).total[0]


@pytest.mark.parametrize(
    ("item", "target", "expected"),
    [
        (0, 0, 1.0 + 0.1 + 0.6 + 0.5 * 0.8),  # a hit
        (1, 0, 0.1 + 0.6),  # its duplicate: the whole prefix, no hit
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


def rollouts(items: list[list[int]], targets: list[int]) -> Rollouts:
    return Rollouts.of_items(torch.tensor(items), torch.tensor(targets))


@pytest.fixture(autouse=True)
def own_terms() -> Iterator[None]:
    before = dict(REWARD_TERMS)
    yield
    REWARD_TERMS.clear()
    REWARD_TERMS.update(before)


def test_training_is_paid_by_the_papers_function(monkeypatch: pytest.MonkeyPatch):
    """Whatever the paper's function says of the four terms is what the sum of all terms holds, and nothing else."""
    items, targets = torch.tensor([[0, 1, -1], [4, 2, 2]]), torch.tensor([0, 2])
    histories = torch.tensor([[-1, 1], [3, 4]])
    record, context = Rollouts.of_items(items, targets, histories=histories), RewardContext(CODES, QUALITY)
    paper = interest_aware_reward(items, targets, CODES, QUALITY, WEIGHTS)
    alone = total_reward(record, context, WEIGHTS.weights)
    assert list(alone.terms) == list(paper.terms) and torch.equal(alone.total, paper.total)
    more = total_reward(record, context, WEIGHTS.weights | {"unseen": 0.25})
    assert more.terms["unseen"].tolist() == [[0.25, 0.0, 0.0], [0.0, 0.25, 0.25]]
    torch.testing.assert_close(more.total, paper.total + more.terms["unseen"])
    doubled = {name: 2 * term for name, term in paper.terms.items()}
    monkeypatch.setattr(rewards, "interest_aware_reward", lambda *_: Reward(2 * paper.total, doubled))
    torch.testing.assert_close(total_reward(record, context, WEIGHTS.weights).total, 2 * paper.total)


def test_a_weight_of_no_term_is_refused_with_the_nearest():
    """It would pay nothing, and a policy that learns nothing is seen hours later."""
    items, targets = torch.tensor([[0, 1]]), torch.tensor([0])
    with pytest.raises(KeyError, match="there is no reward term hitt; did you mean hit\\?"):
        interest_aware_reward(items, targets, CODES, QUALITY, {"hitt": 1.0})
    with pytest.raises(KeyError, match="there is no reward term prefx; did you mean prefix\\?"):
        total_reward(Rollouts.of_items(items, targets), RewardContext(CODES, QUALITY), {"hit": 1.0, "prefx": 0.2})
    with pytest.raises(ValueError, match="the weight of the reward term hit is nan"):
        interest_aware_reward(items, targets, CODES, QUALITY, {"hit": float("nan")})
    paid = interest_aware_reward(items, targets, CODES, QUALITY, {"hit": 1.0, "similarity": 3.0, "absent": 0.0})
    assert list(paid.terms) == ["hit"] and paid.total.tolist() == [[1.0, 0.0]]


def test_facts_may_stay_away_where_their_term_has_no_weight():
    items, targets = torch.tensor([[0, 1]]), torch.tensor([0])
    assert interest_aware_reward(items, targets, None, None, {"hit": 2.0}).total.tolist() == [[2.0, 0.0]]
    with pytest.raises(KeyError, match="codes"):
        interest_aware_reward(items, targets, None, QUALITY, {"prefix": 1.0})
    with pytest.raises(KeyError, match="quality"):
        interest_aware_reward(items, targets, CODES, None, RewardConfig())


@pytest.mark.parametrize(("old", "new"), [("Groups", "Rollouts"), ("ItemKnowledge", "RewardContext")])
def test_an_earlier_name_is_answered_by_its_new_one(old: str, new: str):
    with pytest.raises(ImportError, match=f"^dig.rollouts.{old} is called {new} now$"):
        exec(f"from dig.rollouts import {old}")  # noqa: S102 - as somebody's reward terms do
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec("from dig.rollouts import Nothing")  # noqa: S102
    with pytest.raises(ValueError, match=r"cheap: needs=\('counts',\) is called requires=\('counts',\) now"):
        reward_term("cheap", needs=("counts",))


def test_terms_are_weighted_and_those_without_weight_are_not_asked():
    @reward_term("forbidden")
    def forbidden(rollouts: Rollouts, context: RewardContext) -> Tensor:
        raise AssertionError

    found = total_reward(rollouts([[0, 1, -1]], [0]), RewardContext(), {"hit": 2.0, "valid": 0.5, "forbidden": 0.0})
    assert set(found.terms) == {"hit", "valid"}
    assert found.terms["hit"].tolist() == [[2.0, 0.0, 0.0]] and found.terms["valid"].tolist() == [[0.5, 0.5, 0.0]]
    assert found.total.tolist() == [[2.5, 0.5, 0.0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_names_the_term_and_the_item(value: float):
    @reward_term("broken")
    def broken(rollouts: Rollouts, context: RewardContext) -> Tensor:
        return torch.where(rollouts.items == 2, value, 0.0)

    known = RewardContext(item_ids=["a", "b", "c"])
    with pytest.raises(ValueError, match=f"term broken is {value} for item c where item b was wanted"):
        total_reward(rollouts([[0, 1], [0, 2]], [0, 1]), known, {"hit": 1.0, "broken": 0.1})
    with pytest.raises(ValueError, match="item row 2 where item row 1"):
        total_reward(rollouts([[0, 1], [0, 2]], [0, 1]), RewardContext(), {"broken": 1.0})


def test_a_term_of_another_shape_is_refused():
    @reward_term("flat")
    def flat(rollouts: Rollouts, context: RewardContext) -> Tensor:
        return rollouts.hits.float().mean(dim=1)

    with pytest.raises(ValueError, match=r"flat is \(2,\), but the rollouts are \(2, 2\)"):
        total_reward(rollouts([[0, 1], [0, 2]], [0, 1]), RewardContext(), {"flat": 1.0})


def test_names_are_taken_once_and_required_facts_are_known():
    with pytest.raises(ValueError, match="there is a reward term hit already"):

        @reward_term("hit")
        def another(rollouts: Rollouts, context: RewardContext) -> Tensor:
            return rollouts.hits.float()

    with pytest.raises(ValueError, match="requires 'colour'"):
        reward_term("colourful", requires=("colour",))


def test_a_script_registers_and_is_imported_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A script that trains with its own term: the stage imports the file that runs already. Another file is refused."""
    source = """
from dig.rollouts import reward_term

@reward_term("of_a_script")
def of_a_script(rollouts, context):
    return rollouts.hits.float()
"""
    (tmp_path / "my_script.py").write_text(source)
    (tmp_path / "another_file.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    runpy.run_path(str(tmp_path / "my_script.py"), run_name="__main__")
    importlib.import_module("my_script")
    assert rewards.module_of(REWARD_TERMS["of_a_script"].function) == "my_script"
    with pytest.raises(ValueError, match="there is a reward term of_a_script already, my_script"):
        importlib.import_module("another_file")


def test_knowledge_is_neither_saved_nor_trained():
    known = RewardContext(codes=torch.zeros(3, 2), sequential=torch.nn.Linear(2, 3))
    assert not known.state_dict() and not list(known.parameters())
    assert known.sequential is not None and not any(p.requires_grad for p in known.sequential.parameters())
    assert known.has("codes") and not known.has("vectors")
