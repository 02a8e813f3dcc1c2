"""The whole catalogue's log-probabilities against brute force, in any parts."""

from __future__ import annotations

import pytest
import tiny
import torch

from dig.generation import CatalogueTrie, beam_search, score_catalogue

TOKENS = tiny.token_sequences(tiny.ragged_catalogue())
TRIE = CatalogueTrie(TOKENS)
PROMPTS = tiny.random_prompts()


@pytest.mark.parametrize("normalise", ["trie", "vocabulary"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
@torch.no_grad()
def test_every_item_has_its_exact_log_probability(family: str, normalise: str):
    model = tiny.tiny_model(family)
    exact = torch.stack([tiny.replicated_log_probs(model, prompt, TOKENS, normalise).sum(dim=1) for prompt in PROMPTS])
    for chunk in (1, 5, 100):
        found = score_catalogue(model, *tiny.padded(PROMPTS, "left"), TRIE, normalise, chunk=chunk)
        torch.testing.assert_close(found, exact, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_beam_search_with_as_many_beams_as_items_is_full_enumeration():
    model, prompts = tiny.tiny_model("qwen2"), tiny.padded(PROMPTS, "right")
    every = score_catalogue(model, *prompts, TRIE)
    found = beam_search(model, *prompts, TRIE, TRIE.num_items)
    torch.testing.assert_close(every.gather(1, found.items), found.log_probs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_that_a_part_of_the_catalogue_lacks_have_no_probability():
    model, prompts = tiny.tiny_model("qwen2"), tiny.padded(PROMPTS, "right")
    part = TRIE.subset(torch.tensor([2, 7, 11]))
    found = score_catalogue(model, *prompts, part)
    assert found.shape == (3, 12)
    assert found.isfinite().any(dim=0).nonzero()[:, 0].tolist() == [2, 7, 11]
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(3), atol=1e-5, rtol=0)


@torch.no_grad()
def test_twins_share_a_probability():
    trie = CatalogueTrie(torch.tensor([[4, 8], [5, 8], [4, 8], [4, 9], [4, 8]]), twins=True)
    for chunk in (1, 2, 9):
        found = score_catalogue(tiny.tiny_model("gpt2"), *tiny.padded(PROMPTS, "left"), trie, chunk=chunk)
        assert torch.equal(found[:, 0], found[:, 2]) or torch.allclose(found[:, 0], found[:, 2], atol=1e-6)
        torch.testing.assert_close(found[:, [0, 1, 3]].exp().sum(dim=1), torch.ones(3), atol=1e-5, rtol=0)
