"""Bans and permissions against brute force over the items that are left."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny

from dig.generation import CatalogueTrie, beam_search, sample_groups, score_catalogue

TOKENS = tiny.token_sequences(tiny.ragged_catalogue())
TRIE = CatalogueTrie(TOKENS)
PROMPTS = tiny.random_prompts()


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 23), max_size=30), min_size=1, max_size=4))
def test_a_node_is_allowed_as_long_as_one_of_its_items_is(listed: list[list[int]]):
    width = max(1, *map(len, listed))
    named = torch.tensor([row + [-1] * (width - len(row)) for row in listed])  # in any order, some items more than once
    rows = [set(row) for row in listed]
    paths = TRIE.paths(torch.arange(24))
    for restriction, kept in ((TRIE.only(named), rows), (TRIE.without(named), [set(range(24)) - row for row in rows])):
        for depth in range(TRIE.levels):
            nodes = paths[:, depth - 1].unique() if depth else torch.zeros(1, dtype=torch.int64)
            nodes = nodes[nodes >= 0]
            children, mask = TRIE.allowed(nodes.expand(len(rows), -1), depth, restriction)
            for row, items in enumerate(kept):
                alive = {int(node) for item in items for node in paths[item] if node >= 0}
                found = set(children[row][mask[row]].tolist())
                every, exists = TRIE.allowed(nodes, depth)
                assert found == set(every[exists].tolist()) & alive


@pytest.mark.parametrize("normalise", ["trie", "vocabulary"])
@pytest.mark.parametrize("how", ["only", "without"])
@torch.no_grad()
def test_ranks_as_brute_force_over_what_is_left(how: str, normalise: str):
    model = tiny.tiny_model("qwen2")
    named = torch.tensor([[0, 5, 9, 11, 3, 17], [2, -1, -1, -1, -1, -1], [23, 22, 21, 20, 1, -1]])
    restriction = getattr(TRIE, how)(named)
    found = beam_search(model, *tiny.padded(PROMPTS, "left"), TRIE, 24, normalise, restriction)
    every = score_catalogue(model, *tiny.padded(PROMPTS, "left"), TRIE, normalise, restriction, chunk=7)
    for row, prompt in enumerate(PROMPTS):
        listed = [item for item in named[row].tolist() if item >= 0]
        kept = torch.tensor(listed if how == "only" else [item for item in range(24) if item not in listed])
        exact = tiny.replicated_log_probs(model, prompt, TOKENS[kept], normalise).sum(dim=1)
        order = exact.argsort(descending=True)
        assert found.items[row, : len(kept)].tolist() == kept[order].tolist()
        torch.testing.assert_close(found.log_probs[row, : len(kept)], exact[order], atol=1e-4, rtol=1e-5)
        assert (found.items[row, len(kept) :] == -1).all()
        torch.testing.assert_close(every[row, kept], exact, atol=1e-4, rtol=1e-5)
        assert every[row].isfinite().sum() == len(kept)


@torch.no_grad()
def test_a_row_without_any_item_ends_empty_and_the_others_do_not_notice():
    model = tiny.tiny_model("gpt2")
    named = torch.tensor([[4, 7], [-1, -1], [3, -1]])
    prompts = tiny.padded(PROMPTS, "right")
    found = beam_search(model, *prompts, TRIE, 5, restriction=TRIE.only(named))
    assert (found.items[1] == -1).all() and (found.log_probs[1] == float("-inf")).all()
    assert sorted(found.items[0].tolist()) == [-1, -1, -1, 4, 7] and found.items[2].tolist() == [3, -1, -1, -1, -1]
    for replacement in (True, False):
        drawn = sample_groups(model, *prompts, TRIE, 6, replacement=replacement, restriction=TRIE.only(named))
        assert (drawn.items[1] == -1).all() and (drawn.log_probs[1] == 0).all()
        assert set(drawn.items[0].tolist()) - {-1} <= {4, 7} and set(drawn.items[2].tolist()) - {-1} == {3}


@torch.no_grad()
def test_a_banned_duplicate_leaves_its_duplicates():
    rows = torch.tensor([[4, 8], [4, 8], [5, 8], [4, 8]])
    trie, model = CatalogueTrie(rows, duplicates=True), tiny.tiny_model("llama")
    prompts = tiny.padded(PROMPTS, "left")
    found = beam_search(model, *prompts, trie, 4, restriction=trie.without(torch.tensor([[0], [3], [2]])))
    assert [sorted(row) for row in found.items.tolist()] == [[-1, 1, 2, 3], [-1, 0, 1, 2], [-1, 0, 1, 3]]
    every = score_catalogue(model, *prompts, trie, restriction=trie.without(torch.tensor([[0], [3], [2]])))
    assert (every == float("-inf")).nonzero().tolist() == [[0, 0], [1, 3], [2, 2]]


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(-1, 26), max_size=9), min_size=1, max_size=4),
    st.lists(st.integers(-1, 26), max_size=24),
)
def test_bans_among_some_items_leave_what_neither_list_takes(banned: list[list[int]], stock: list[int]):
    """Whatever is named twice, unknown or in one list only: a node is open while an item of the stock is left below."""
    width = max(1, *map(len, banned))
    named = torch.tensor([row + [-1] * (width - len(row)) for row in banned])
    restriction = TRIE.without(named, torch.tensor(stock, dtype=torch.int64))
    paths = TRIE.paths(torch.arange(24))
    for depth in range(TRIE.levels):
        nodes = paths[:, depth - 1].unique() if depth else torch.zeros(1, dtype=torch.int64)
        nodes = nodes[nodes >= 0]
        children, mask = TRIE.allowed(nodes.expand(len(banned), -1), depth, restriction)
        every, exists = TRIE.allowed(nodes, depth)
        for row, items in enumerate(banned):
            left = set(stock) & set(range(24)) - set(items)
            alive = {int(node) for item in left for node in paths[item] if node >= 0}
            assert set(children[row][mask[row]].tolist()) == set(every[exists].tolist()) & alive


def test_unknown_items_restrict_nothing():
    assert torch.equal(TRIE.without(torch.tensor([[99, -1]])).places, torch.full((1, 2), 24, dtype=torch.int32))
