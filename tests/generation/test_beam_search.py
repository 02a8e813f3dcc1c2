"""Constrained beam search against brute force over all items, a slow beam search, and transformers' ``generate``."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from support import tiny

from dig.config.schema import LoraConfig
from dig.generation import CatalogueTrie, beam_search
from dig.generation.lora import add_lora

IDS = tiny.ragged_catalogue()
TOKENS = tiny.token_sequences(IDS)
TRIE = CatalogueTrie(TOKENS)
PROMPTS = tiny.random_prompts()


def slow_beam_search(log_probs: torch.Tensor, beams: int) -> list[tuple[int, float]]:
    """Keeps the best prefixes level by level, from the log-probabilities (items, levels) of all items."""
    kept: dict[tuple[int, ...], float] = {(): 0.0}
    for level in range(TOKENS.shape[1]):
        longer: dict[tuple[int, ...], float] = {}
        for row, scores in zip(TOKENS.tolist(), log_probs.tolist(), strict=True):
            before, after = (tuple(token for token in row[:cut] if token >= 0) for cut in (level, level + 1))
            if before in kept:
                longer[after] = kept[before] + scores[level]
        kept = dict(sorted(longer.items(), key=lambda pair: -pair[1])[:beams])
    rows = {tuple(token for token in row if token >= 0): item for item, row in enumerate(TOKENS.tolist())}
    return [(rows[prefix], score) for prefix, score in kept.items()]


@pytest.mark.parametrize("normalise", ["trie", "vocabulary"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_ranks_as_brute_force_does(family: str, normalise: str):
    model = tiny.tiny_model(family)
    with torch.no_grad():
        levels = [tiny.replicated_log_probs(model, prompt, TOKENS, normalise) for prompt in PROMPTS]
    totals = torch.stack([found.sum(dim=1) for found in levels])
    if normalise == "trie":
        torch.testing.assert_close(totals.logsumexp(dim=1), torch.zeros(len(PROMPTS)), atol=1e-5, rtol=0)
    ordered = totals.sort(dim=1, descending=True)
    for side in ("left", "right"):
        found = beam_search(model, *tiny.padded(PROMPTS, side), TRIE, TRIE.num_items, normalise)
        torch.testing.assert_close(found.log_probs, ordered.values, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(totals.gather(1, found.items), ordered.values, atol=1e-4, rtol=1e-5)
        assert [sorted(row) for row in found.items.tolist()] == [list(range(TRIE.num_items))] * len(PROMPTS)
        few = beam_search(model, *tiny.padded(PROMPTS, side), TRIE, 3, normalise)
        for row, scores in enumerate(levels):
            wanted = slow_beam_search(scores, 3)
            assert few.items[row].tolist() == [item for item, _ in wanted]
            assert few.log_probs[row].tolist() == pytest.approx([score for _, score in wanted], abs=1e-4)


def test_more_beams_than_items_end_in_minus_one():
    model = tiny.tiny_model("qwen2")
    with pytest.warns(UserWarning, match="29 beams, but the catalogue has 24 items"):
        found = beam_search(model, *tiny.padded(PROMPTS, "right"), TRIE, TRIE.num_items + 5)
    assert found.items.shape == found.log_probs.shape == (len(PROMPTS), TRIE.num_items + 5)
    assert (found.items[:, -5:] == -1).all() and (found.log_probs[:, -5:] == float("-inf")).all()
    for row in found.items[:, :-5].tolist():
        assert sorted(row) == list(range(TRIE.num_items))
    assert torch.isfinite(found.log_probs[:, :-5]).all()


def test_an_item_alone_at_its_first_code_is_found_with_every_beam_width():
    trie = CatalogueTrie(torch.tensor([[4, 8, 12], [5, -1, -1], [4, 8, 13], [4, 9, -1]]))
    model = tiny.tiny_model("llama")
    for beams in range(1, 7):
        found = beam_search(model, *tiny.padded(PROMPTS, "left"), trie, beams)
        ranked = [[item for item in row if item >= 0] for row in found.items.tolist()]
        assert all(len(row) == len(set(row)) <= min(beams, 4) for row in ranked)
        assert torch.equal(found.items == -1, found.log_probs == float("-inf"))
        assert (found.log_probs.diff(dim=1).nan_to_num(nan=0.0) <= 0).all()
    assert all(sorted(row) == [0, 1, 2, 3] for row in ranked)


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_agrees_with_generate(family: str):
    generator = torch.Generator().manual_seed(1)
    codes = torch.cartesian_prod(*[torch.arange(4)] * 3)[torch.randperm(64, generator=generator)[:30]]
    tokens = codes + torch.tensor([4, 8, 12])
    trie, model, beams = CatalogueTrie(tokens), tiny.tiny_model(family), 6
    allowed: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for row in tokens.tolist():
        for level, token in enumerate(row):
            allowed[tuple(row[:level])].add(token)
    input_ids, mask = tiny.padded(PROMPTS, "left")
    width = input_ids.shape[1]
    model.generation_config.eos_token_id = None
    theirs = model.generate(
        input_ids,
        attention_mask=mask,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=3,
        do_sample=False,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
        prefix_allowed_tokens_fn=lambda _, ids: sorted(allowed[tuple(ids[width:].tolist())]),
    )
    ours = beam_search(model, input_ids, mask, trie, beams, normalise="vocabulary")
    assert trie.find(theirs.sequences[:, width:]).view(len(PROMPTS), beams).tolist() == ours.items.tolist()
    torch.testing.assert_close(theirs.sequences_scores.view_as(ours.log_probs), ours.log_probs, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_prompt_is_ranked_the_same_in_any_company(side: str):
    model = tiny.tiny_model("qwen3")
    together = beam_search(model, *tiny.padded(PROMPTS, side), TRIE, 8)
    backwards = beam_search(model, *tiny.padded(PROMPTS[::-1], side), TRIE, 8)
    assert torch.equal(backwards.items.flip(0), together.items)
    for row, prompt in enumerate(PROMPTS):
        alone = beam_search(model, *tiny.padded([prompt], side), TRIE, 8)
        assert torch.equal(alone.items[0], together.items[row])
        torch.testing.assert_close(alone.log_probs[0], together.log_probs[row], atol=1e-5, rtol=1e-5)


def test_the_order_of_the_catalogue_does_not_matter():
    model = tiny.tiny_model("qwen2")
    order = torch.randperm(len(TOKENS), generator=torch.Generator().manual_seed(2))
    found = beam_search(model, *tiny.padded(PROMPTS, "right"), TRIE, 8)
    shuffled = beam_search(model, *tiny.padded(PROMPTS, "right"), CatalogueTrie(TOKENS[order]), 8)
    assert torch.equal(order[shuffled.items], found.items)


def test_ties_are_ranked_in_catalogue_order():
    model = tiny.tiny_model("qwen2")
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    trie = CatalogueTrie(torch.tensor([[7], [5], [4], [6]]))
    found = beam_search(model, *tiny.padded(PROMPTS, "right"), trie, 4)
    assert found.items.tolist() == [[0, 1, 2, 3]] * len(PROMPTS)
    assert found.log_probs.exp().flatten().tolist() == pytest.approx([0.25] * 12)


def test_ties_at_the_cut_are_broken_the_same_way_on_every_device():
    model = tiny.tiny_model("qwen2")
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    trie = CatalogueTrie(torch.stack([torch.arange(4, 40), torch.arange(4, 40)], dim=1))
    for beams in (1, 3, 17, 35):
        found = beam_search(model, *tiny.padded(PROMPTS, "right"), trie, beams)
        assert found.items.tolist() == [list(range(beams))] * len(PROMPTS)


def test_logits_that_are_not_finite_name_their_rows():
    model = tiny.tiny_model("qwen2")
    prompts, mask = tiny.padded([torch.full((4,), 5), torch.full((4,), 6), torch.full((4,), 5)], "left")
    with torch.no_grad():
        model.get_input_embeddings().weight[6] = float("nan")
        if model.get_output_embeddings().weight is model.get_input_embeddings().weight:
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    trie = CatalogueTrie(torch.tensor([[7, 8], [9, 10]]))
    with pytest.raises(ValueError, match=r"not finite for prompts \[1\]"):
        beam_search(model, prompts, mask, trie, 2)


def test_beams_and_the_normalisation_are_what_they_may_be():
    """An unknown normalisation was the vocabulary's, and nobody was told."""
    model, prompts = tiny.tiny_model("qwen2"), tiny.padded(PROMPTS, "left")
    trie = CatalogueTrie(torch.tensor([[7, 8], [9, 10]]))
    with pytest.raises(ValueError, match="normalise is trie or vocabulary, not 'tri'"):
        beam_search(model, *prompts, trie, 2, normalise="tri")  # type: ignore[arg-type]
    for beams in (0, -1):
        with pytest.raises(ValueError, match=f"num_beams and group_size must be at least 1, it is {beams}"):
            beam_search(model, *prompts, trie, beams)


@pytest.mark.parametrize("tokens", [[[7, 8], [60, 9]]])
def test_a_token_that_the_model_lacks_is_refused(tokens: list[list[int]]):
    with pytest.raises(ValueError, match="the token 60, the model only 60"):
        beam_search(tiny.tiny_model("qwen2"), *tiny.padded(PROMPTS, "left"), CatalogueTrie(torch.tensor(tokens)), 2)


def test_bfloat16_and_lora_rank_nearly_the_same():
    model = tiny.tiny_model("llama")
    exact = beam_search(model, *tiny.padded(PROMPTS, "left"), TRIE, 8)
    coarse = beam_search(tiny.tiny_model("llama").to(torch.bfloat16), *tiny.padded(PROMPTS, "left"), TRIE, 8)
    torch.testing.assert_close(coarse.log_probs, exact.log_probs, atol=0.3, rtol=0.05)
    wrapped = add_lora(model, LoraConfig())  # starts as the model itself
    found = beam_search(wrapped.eval(), *tiny.padded(PROMPTS, "left"), TRIE, 8)
    assert torch.equal(found.items, exact.items)
    torch.testing.assert_close(found.log_probs, exact.log_probs, atol=1e-5, rtol=1e-5)
