"""Sampled frequencies against exact probabilities."""

from __future__ import annotations

import pytest
import tiny
import torch
from scipy.stats import chisquare

from dig.generation import CatalogueTrie, sample_groups, score

TOKENS = tiny.token_sequences(tiny.ragged_catalogue())
TRIE = CatalogueTrie(TOKENS)


@pytest.mark.parametrize(("family", "temperature"), [("qwen2", 1.0), ("qwen2", 2.5), ("gpt2", 1.7)])
def test_frequencies_follow_the_exact_probabilities(family: str, temperature: float):
    model, prompt = tiny.tiny_model(family, noise=0.05), tiny.random_prompts((7,))[0]
    with torch.no_grad():
        exact = tiny.replicated_log_probs(model, prompt, TOKENS, temperature=temperature).sum(dim=1).exp().double()
    drawn = sample_groups(
        model, *tiny.padded([prompt] * 32, "right"), TRIE, 250, temperature, torch.Generator().manual_seed(0)
    )
    assert drawn.items.shape == (32, 250) and drawn.log_probs.shape == (32, 250, TRIE.levels)
    counts = torch.bincount(drawn.items.flatten(), minlength=len(TOKENS)).double()
    common = exact * 8000 >= 5  # what chi-squared needs; the rest is one class
    observed = torch.cat([counts[common], counts[~common].sum().view(1)])
    expected = torch.cat([exact[common], exact[~common].sum().view(1)]) * 8000 / exact.sum()
    used = expected > 0
    assert used.sum() >= 5
    assert chisquare(observed[used].numpy(), expected[used].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_log_probs_are_those_of_score(family: str, side: str):
    model, prompts = tiny.tiny_model(family), tiny.padded(tiny.random_prompts(), side)
    drawn = sample_groups(model, *prompts, TRIE, 16, 1.3, torch.Generator().manual_seed(1))
    assert ((drawn.items >= 0) & (drawn.items < TRIE.num_items)).all()
    with torch.no_grad():
        expected = score(model, *prompts, TRIE, drawn.items, 1.3)
    torch.testing.assert_close(drawn.log_probs, expected, atol=1e-5, rtol=1e-5)
    assert (drawn.log_probs[TRIE.paths[drawn.items] < 0] == 0).all()


def test_the_generator_decides_everything():
    model, prompts = tiny.tiny_model("qwen2"), tiny.padded(tiny.random_prompts(), "right")
    draws = [sample_groups(model, *prompts, TRIE, 8, generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    assert torch.equal(draws[0].items, draws[1].items) and torch.equal(draws[0].log_probs, draws[1].log_probs)
    assert not torch.equal(draws[0].items, draws[2].items)
    torch.manual_seed(5)
    first = sample_groups(model, *prompts, TRIE, 8)
    torch.manual_seed(5)
    assert torch.equal(sample_groups(model, *prompts, TRIE, 8).items, first.items)


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2.0**-24])
def test_the_ends_of_the_uniform_interval_give_items(monkeypatch: pytest.MonkeyPatch, uniform: float):
    monkeypatch.setattr(torch, "rand", lambda *shape, generator=None: torch.full(shape, uniform))
    drawn = sample_groups(tiny.tiny_model("qwen2"), *tiny.padded(tiny.random_prompts(), "right"), TRIE, 2)
    assert (drawn.items >= 0).all() and torch.isfinite(drawn.log_probs).all()


def test_an_almost_greedy_temperature_gives_the_best_item():
    model, prompts = tiny.tiny_model("qwen2"), tiny.random_prompts()
    drawn = sample_groups(model, *tiny.padded(prompts, "left"), TRIE, 4, 1e-3, torch.Generator().manual_seed(0))
    for row, prompt in enumerate(prompts):
        with torch.no_grad():
            levels = tiny.replicated_log_probs(model, prompt, TOKENS, temperature=1e-3)
        assert drawn.items[row].tolist() == [int(levels.sum(dim=1).argmax())] * 4
