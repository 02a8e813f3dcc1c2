"""Reassignment: distinct codes inside a branch at the least total cost, everything else untouched."""

from itertools import permutations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dig.evaluation.codebook import collision_rate
from dig.quantization import reassign


def test_duplicates_get_the_cheapest_distinct_codes():
    codes = torch.tensor([[0, 1], [0, 1], [0, 2], [1, 1], [1, 3]])
    costs = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    found = reassign(codes, lambda rows: costs[rows], 4)
    branch = range(3)
    total = lambda chosen: sum(float(costs[row, code]) for row, code in zip(branch, chosen, strict=True))  # noqa: E731
    best = min(permutations(range(4), 3), key=total)
    assert found[:3, 1].tolist() == list(best)
    assert torch.equal(found[3:], codes[3:]), "a branch without duplicates stays"
    assert torch.equal(found[:, 0], codes[:, 0])
    assert codes[0].tolist() == [0, 1], "the input stays"


def test_a_branch_with_more_items_than_codes_keeps_the_rest_in_a_collision():
    codes = torch.zeros(5, 2, dtype=torch.int64)
    costs = torch.rand(5, 3, generator=torch.Generator().manual_seed(1))
    found = reassign(codes, lambda rows: costs[rows], 3)
    assert sorted(set(found[:, 1].tolist())) == [0, 1, 2]
    assert len(found) == 5


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 10_000))
def test_collisions_never_grow_and_vanish_where_there_is_room(items: int, levels: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(3, (items, levels), generator=generator)
    costs = torch.rand(items, 3, generator=generator)
    found = reassign(codes, lambda rows: costs[rows], 3)
    assert torch.equal(found[:, :-1], codes[:, :-1])
    assert collision_rate(found) <= collision_rate(codes)
    branches = [tuple(row) for row in codes[:, :-1].tolist()]
    for branch in set(branches):
        rows = [row for row, own in enumerate(branches) if own == branch]
        assert len(set(found[rows, -1].tolist())) >= min(len(rows), len(set(codes[rows, -1].tolist())))
        if len(rows) <= 3:
            assert len(set(found[rows, -1].tolist())) == len(rows)
