"""Scores, their gradients and the whole catalogue against every item behind its own copy of the prompt."""

from __future__ import annotations

import pytest
import torch
from support import tiny

from dig.generation import CatalogueTrie, beam_search, score, score_catalogue
from dig.generation.search import score_with_entropy

TOKENS = tiny.token_sequences(tiny.ragged_catalogue())
TRIE = CatalogueTrie(TOKENS)
PROMPTS = tiny.random_prompts()
ITEMS = torch.tensor([[3, 0, 3, 11, 23], [22, 5, 1, 0, 2], [7, 19, 12, 4, 4]])  # an item may come twice


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_scores_and_gradients_equal_the_replicated_computation(family: str, side: str):
    model = tiny.tiny_model(family, noise=0.05)
    weights = torch.randn(*ITEMS.shape, TRIE.levels, generator=torch.Generator().manual_seed(0))

    ours = score(model, *tiny.padded(PROMPTS, side), TRIE, ITEMS, temperature=1.2)
    (ours * weights).sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()

    rows = [
        tiny.replicated_log_probs(model, prompt, TOKENS, temperature=1.2)[items]
        for prompt, items in zip(PROMPTS, ITEMS, strict=True)
    ]
    theirs = torch.stack(rows)
    (theirs * weights).sum().backward()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    scale = max(float(parameter.grad.abs().max()) for parameter in model.parameters())
    for name, parameter in model.named_parameters():
        difference = float((parameter.grad - gradients[name]).abs().max())
        assert difference <= 1e-5 * max(scale, 1.0), f"{name}: {difference} of {scale}"
    assert scale > 1e-2


def test_levels_that_an_item_lacks_score_zero_without_gradient():
    model = tiny.tiny_model("qwen2")
    missing = TRIE.paths(ITEMS) < 0
    assert missing.any()
    found = score(model, *tiny.padded(PROMPTS, "right"), TRIE, ITEMS)
    assert (found[missing] == 0).all() and (found[~missing] <= 0).all()
    found[missing].sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_a_catalogue_of_one_level():
    trie, model = CatalogueTrie(torch.arange(4, 10).unsqueeze(1)), tiny.tiny_model("llama")
    items = torch.arange(6).expand(len(PROMPTS), -1)
    found = score(model, *tiny.padded(PROMPTS, "left"), trie, items)
    torch.testing.assert_close(found.exp().sum(dim=(1, 2)), torch.ones(len(PROMPTS)), atol=1e-5, rtol=0)


def test_a_group_is_scored_the_same_in_any_company():
    model = tiny.tiny_model("gemma")
    with torch.no_grad():
        together = score(model, *tiny.padded(PROMPTS, "right"), TRIE, ITEMS)
        for row, prompt in enumerate(PROMPTS):
            for column in range(ITEMS.shape[1]):
                alone = score(model, *tiny.padded([prompt], "right"), TRIE, ITEMS[row, column].view(1, 1))
                torch.testing.assert_close(alone[0, 0], together[row, column], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tokens", [TOKENS, torch.arange(4, 28).unsqueeze(1)], ids=["four levels", "one level"])
def test_entropy_is_that_of_the_choice_at_each_level(tokens: torch.Tensor):
    """Over all items at once, the expected entropies of the levels add up to that of the whole distribution."""
    trie, model = CatalogueTrie(tokens), tiny.tiny_model("qwen2")
    items = torch.arange(len(tokens)).expand(len(PROMPTS), -1)
    with torch.no_grad():
        found = score_with_entropy(model, *tiny.padded(PROMPTS, "right"), trie, items, 1.3)
    by_item = found.log_probs.sum(dim=-1)
    whole = -(by_item.exp() * by_item).sum(dim=1)
    torch.testing.assert_close((by_item.exp() * found.entropy.sum(dim=-1)).sum(dim=1), whole, atol=1e-5, rtol=1e-5)
    assert not found.entropy.requires_grad and (found.entropy[trie.paths(items) < 0] == 0).all()


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
def test_duplicates_share_a_probability():
    trie = CatalogueTrie(torch.tensor([[4, 8], [5, 8], [4, 8], [4, 9], [4, 8]]), duplicates=True)
    for chunk in (1, 2, 9):
        found = score_catalogue(tiny.tiny_model("gpt2"), *tiny.padded(PROMPTS, "left"), trie, chunk=chunk)
        assert torch.equal(found[:, 0], found[:, 2]) or torch.allclose(found[:, 0], found[:, 2], atol=1e-6)
        torch.testing.assert_close(found[:, [0, 1, 3]].exp().sum(dim=1), torch.ones(3), atol=1e-5, rtol=0)
