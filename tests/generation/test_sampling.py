"""Sampled frequencies against exact probabilities."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare
from support import tiny

from dig.generation import CatalogueTrie, beam_groups, beam_search, sample_groups, sampling, score
from dig.generation.sampling import prompt_seeds

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
    assert (drawn.log_probs[TRIE.paths(drawn.items) < 0] == 0).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_divides_nothing_is_not_blamed_on_the_model(temperature: float):
    model, prompts = tiny.tiny_model("qwen2"), tiny.padded(tiny.random_prompts(), "right")
    with pytest.raises(ValueError, match=f"the temperature must be above 0, it is {temperature:g}"):
        sample_groups(model, *prompts, TRIE, 4, temperature)


def test_a_group_of_nobody_is_refused():
    model, prompts = tiny.tiny_model("qwen2"), tiny.padded(tiny.random_prompts(), "right")
    with pytest.raises(ValueError, match="num_beams and group_size must be at least 1, it is 0"):
        sample_groups(model, *prompts, TRIE, group_size=0)


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
@pytest.mark.parametrize("replacement", [True, False])
def test_the_ends_of_the_uniform_interval_give_items(
    monkeypatch: pytest.MonkeyPatch, uniform: float, replacement: bool
):
    monkeypatch.setattr(sampling, "_uniform", lambda seeds, counters: torch.full(counters.shape, uniform))
    prompts = tiny.padded(tiny.random_prompts(), "right")
    drawn = sample_groups(tiny.tiny_model("qwen2"), *prompts, TRIE, 2, replacement=replacement)
    assert (drawn.items >= 0).all() and torch.isfinite(drawn.log_probs).all()


@pytest.mark.parametrize("replacement", [True, False])
def test_a_prompt_gets_the_same_samples_in_any_batch(replacement: bool):
    model, prompts = tiny.tiny_model("qwen2"), tiny.random_prompts()
    together = sample_groups(
        model, *tiny.padded(prompts, "right"), TRIE, 8, 1.5, torch.Generator().manual_seed(3), replacement
    )
    generator = torch.Generator().manual_seed(3)
    for row, prompt in enumerate(prompts):
        alone = sample_groups(model, *tiny.padded([prompt], "left"), TRIE, 8, 1.5, generator, replacement)
        assert torch.equal(alone.items[0], together.items[row])
        torch.testing.assert_close(alone.log_probs[0], together.log_probs[row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_without_replacement_pairs_follow_the_exact_probabilities(temperature: float):
    model, prompt = tiny.tiny_model("qwen2", noise=0.05), tiny.random_prompts((7,))[0]
    with torch.no_grad():
        exact = tiny.replicated_log_probs(model, prompt, TOKENS, temperature=temperature).sum(dim=1).exp().double()
    pairs = exact[:, None] * exact[None, :] / (1 - exact[:, None])  # one after the other, from what is left
    pairs.fill_diagonal_(0.0)
    drawn = sample_groups(
        model,
        *tiny.padded([prompt] * 6000, "right"),
        TRIE,
        2,
        temperature,
        torch.Generator().manual_seed(1),
        replacement=False,
    )
    counts = torch.bincount(drawn.items[:, 0] * 24 + drawn.items[:, 1], minlength=24 * 24).double()
    expected = pairs.flatten() * 6000
    common = expected >= 5
    observed = torch.cat([counts[common], counts[~common].sum().view(1)])
    wanted = torch.cat([expected[common], expected[~common].sum().view(1)])
    assert common.sum() >= 20
    assert chisquare(observed.numpy(), (wanted * 6000 / wanted.sum()).numpy()).pvalue > 1e-3


def test_without_replacement_nothing_comes_twice_and_a_small_catalogue_runs_out():
    model, prompts = tiny.tiny_model("gpt2"), tiny.padded(tiny.random_prompts(), "left")
    drawn = sample_groups(model, *prompts, TRIE, 30, 1.3, torch.Generator().manual_seed(0), replacement=False)
    assert [sorted(row) for row in drawn.items.tolist()] == [[-1] * 6 + list(range(24))] * 3
    with torch.no_grad():
        expected = score(model, *prompts, TRIE, drawn.items.clamp(min=0), 1.3)
    there = drawn.items >= 0
    torch.testing.assert_close(drawn.log_probs[there], expected[there], atol=1e-5, rtol=1e-5)
    assert (drawn.log_probs[~there] == 0).all()


def test_uniform_numbers_are_uniform_and_independent_of_their_neighbours():
    seeds = torch.randint(2**62, (200, 1), generator=torch.Generator().manual_seed(0))
    drawn = sampling._uniform(seeds, torch.arange(500).expand(200, -1))
    counts = torch.histc(drawn, 50, 0.0, 1.0)
    assert chisquare(counts.numpy()).pvalue > 1e-3
    assert abs(float(torch.corrcoef(torch.stack([drawn[:, :-1].flatten(), drawn[:, 1:].flatten()]))[0, 1])) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([drawn[:-1].flatten(), drawn[1:].flatten()]))[0, 1])) < 0.02


def test_an_almost_greedy_temperature_gives_the_best_item():
    model, prompts = tiny.tiny_model("qwen2"), tiny.random_prompts()
    drawn = sample_groups(model, *tiny.padded(prompts, "left"), TRIE, 4, 1e-3, torch.Generator().manual_seed(0))
    for row, prompt in enumerate(prompts):
        with torch.no_grad():
            levels = tiny.replicated_log_probs(model, prompt, TOKENS, temperature=1e-3)
        assert drawn.items[row].tolist() == [int(levels.sum(dim=1).argmax())] * 4


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_beam_groups_are_beam_searchs_items_with_the_policys_log_probs(family: str):
    model, prompts = tiny.tiny_model(family), tiny.padded(tiny.random_prompts(), "right")
    groups, beams = beam_groups(model, *prompts, TRIE, 9), beam_search(model, *prompts, TRIE, 9)
    assert torch.equal(groups.items, beams.items)
    torch.testing.assert_close(groups.log_probs.sum(dim=-1), beams.log_probs, atol=1e-5, rtol=1e-5)
    warm = beam_groups(model, *prompts, TRIE, 9, temperature=1.7)
    with torch.no_grad():
        expected = score(model, *prompts, TRIE, warm.items, 1.7)
    torch.testing.assert_close(warm.log_probs, expected, atol=1e-5, rtol=1e-5)


def test_a_prompts_samples_follow_from_its_seed_in_any_company():
    model, prompts = tiny.tiny_model("qwen2"), tiny.padded(tiny.random_prompts(), "right")
    seeds = prompt_seeds(torch.tensor([5, 6, 7]), 42, 3)
    together = sample_groups(model, *prompts, TRIE, 12, seeds=seeds)
    for row in range(3):
        alone = sample_groups(model, *(part[row : row + 1] for part in prompts), TRIE, 12, seeds=seeds[row : row + 1])
        assert torch.equal(alone.items[0], together.items[row])


def test_prompt_seeds_differ_by_sample_and_moment():
    samples = torch.arange(1000)
    seeds = torch.stack([prompt_seeds(samples, seed, step) for seed in (0, 1, 2**40) for step in range(5)])
    assert seeds.unique().numel() == seeds.numel()
    assert torch.equal(prompt_seeds(samples[10:20], 1, 4), prompt_seeds(samples, 1, 4)[10:20])
