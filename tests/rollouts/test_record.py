"""The one record: what it is cut into and joined of, and what it is before and after its groups are filled in."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from support import tiny

from dig.generation import CatalogueTrie, beam_groups, sample_groups
from dig.rollouts import Rollouts
from dig.rollouts.record import sample_rollouts

COUNT = 7


def record(reference: bool = True) -> Rollouts:
    """Every value is another number, so that nothing can be mistaken for something else."""
    numbers = iter(range(10_000))

    def next_of(*shape: int) -> torch.Tensor:
        return torch.tensor([next(numbers) for _ in range(torch.Size(shape).numel())]).view(shape)

    prompts = Rollouts.of_prompts(
        next_of(COUNT, 3), next_of(COUNT, 3), next_of(COUNT), next_of(COUNT, 4), next_of(COUNT)
    )
    return replace(
        prompts,
        items=next_of(COUNT, 2),
        old_log_probs=next_of(COUNT, 2, 3),
        rewards=next_of(COUNT, 2),
        terms={"hit": next_of(COUNT, 2), "own": next_of(COUNT, 2)},
        advantages=next_of(COUNT, 2),
        reference_log_probs=next_of(COUNT, 2, 3) if reference else None,
    )


def assert_same(one: Rollouts, other: Rollouts) -> None:
    for entry in fields(Rollouts):
        ours, theirs = getattr(one, entry.name), getattr(other, entry.name)
        if isinstance(ours, dict):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(value, theirs[name]) for name, value in ours.items()), entry.name
        else:
            assert (ours is None and theirs is None) or torch.equal(ours, theirs), entry.name


@pytest.mark.parametrize("reference", [True, False])
def test_what_is_cut_and_joined_again_is_the_same(reference: bool):
    whole = record(reference)
    for count in range(1, 10):
        parts = list(whole.minibatches(count))
        sizes = [len(part) for part in parts]
        assert len(parts) == min(count, COUNT) and max(sizes) - min(sizes) <= 1
        assert_same(Rollouts.join(parts), whole)
    for size in range(1, 9):
        parts = whole.split(size)
        assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1) and 0 < len(parts[-1]) <= size
        assert_same(Rollouts.join(parts), whole)


def test_prompts_are_taken_with_all_that_is_theirs():
    whole, rows = record(), torch.tensor([5, 0, 5])
    some = whole.take(rows)
    for entry in fields(Rollouts):
        values, taken = getattr(whole, entry.name), getattr(some, entry.name)
        for name in values if isinstance(values, dict) else [None]:
            before, after = (values, taken) if name is None else (values[name], taken[name])
            assert torch.equal(after, before[rows]), entry.name


def test_prompts_alone_are_groups_of_none_and_are_cut_moved_and_joined_as_they_are():
    full = record()
    names = ("input_ids", "attention_mask", "targets", "histories", "samples")
    prompts = Rollouts.of_prompts(*(getattr(full, name) for name in names))
    assert prompts.items.shape == prompts.rewards.shape == prompts.advantages.shape == (COUNT, 0)
    assert prompts.hits.shape == prompts.ranks.shape == (COUNT, 0) and not prompts.terms
    assert_same(Rollouts.join(prompts.split(3)), prompts)
    assert_same(move_data_to_device(prompts, torch.device("cpu")), prompts)  # as Lightning moves a loader's batch


def test_what_follows_from_items_is_that_of_the_items_that_were_filled_in():
    prompts = Rollouts.of_items(torch.zeros(1, 0, dtype=torch.long), torch.tensor([4]))
    assert prompts.hits.numel() == 0
    rollouts = replace(prompts, items=torch.tensor([[4, -1, 4, 2]]), old_log_probs=torch.tensor([[[-1.0, -2.0]] * 4]))
    assert rollouts.hits.tolist() == [[True, False, True, False]]
    assert rollouts.valid.tolist() == [[True, False, True, True]]
    assert rollouts.rows.tolist() == [[4, 0, 4, 2]]
    assert rollouts.first.tolist() == [[True, True, False, True]]
    assert rollouts.log_probs.tolist() == [[-3.0] * 4]


def prompts_of(targets: list[int]) -> Rollouts:
    ids, mask = tiny.padded(tiny.random_prompts()[: len(targets)], "right")
    rows = torch.arange(len(targets))
    return Rollouts.of_prompts(ids, mask, torch.tensor(targets), rows.unsqueeze(1), rows)


@pytest.mark.parametrize("way", ["sample", "stochastic_beam", "beam"])
def test_groups_are_those_of_generation_and_a_shared_leaf_is_the_target(way: str):
    model = tiny.tiny_model("qwen2")
    tokens = torch.tensor([[4, 8], [4, 8], [5, 8], [5, 9], [4, 9], [5, 10]])  # items 0 and 1 share a leaf
    trie = CatalogueTrie(tokens, duplicates=True)
    prompts, seeds = prompts_of([1, 0, 3]), torch.tensor([1, 2, 3])
    rollouts = sample_rollouts(prompts, way, model, trie, 4, 1.3, seeds)
    policy = (model, prompts.input_ids, prompts.attention_mask, trie, 4, 1.3)
    others = {"sample": True, "stochastic_beam": False}
    groups = sample_groups(*policy, replacement=others[way], seeds=seeds) if way in others else beam_groups(*policy)
    assert torch.equal(rollouts.old_log_probs, groups.log_probs)
    assert torch.equal(rollouts.items[1:], groups.items[1:])  # the leaf's first item is the target, or not shared
    assert torch.equal(rollouts.items[0], groups.items[0].where(groups.items[0] != 0, 1))
    assert torch.equal(trie.paths(rollouts.items), trie.paths(groups.items))  # the update scores the same path
    assert rollouts.input_ids is prompts.input_ids and prompts.items.shape == (3, 0)


def test_an_unknown_way_is_refused():
    trie = CatalogueTrie(torch.tensor([[4, 8], [5, 8]]))
    with pytest.raises(ValueError, match="not by 'greedy'"):
        sample_rollouts(prompts_of([0]), "greedy", tiny.tiny_model("qwen2"), trie, 2, 1.0, torch.zeros(1).long())
