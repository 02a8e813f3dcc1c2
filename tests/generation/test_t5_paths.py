"""T5 against the plain model: every path alone in the decoder."""

from __future__ import annotations

import pytest
import torch
from support import tiny

from dig.generation import CatalogueTrie, beam_search, sample_groups, score, score_catalogue
from dig.generation.causal_paths import CausalPathModel
from dig.generation.factory import as_path_model
from dig.generation.t5_paths import T5PathModel

TOKENS = tiny.token_sequences(tiny.ragged_catalogue())
TRIE = CatalogueTrie(TOKENS)
PROMPTS = tiny.random_prompts()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_ranks_as_brute_force_does(attention: str, side: str):
    model = tiny.tiny_encoder_decoder("t5", attn_implementation=attention)
    exact = torch.stack([tiny.replicated_log_probs(model, prompt, TOKENS).sum(dim=1) for prompt in PROMPTS])
    torch.testing.assert_close(exact.logsumexp(dim=1), torch.zeros(3), atol=1e-5, rtol=0)
    prompts = tiny.padded(PROMPTS, side)
    ordered = exact.sort(dim=1, descending=True)
    found = beam_search(model, *prompts, TRIE, TRIE.num_items)
    torch.testing.assert_close(found.log_probs, ordered.values, atol=1e-4, rtol=1e-5)
    assert torch.equal(found.items, ordered.indices)
    torch.testing.assert_close(score_catalogue(model, *prompts, TRIE, chunk=5), exact, atol=1e-4, rtol=1e-5)
    items = torch.arange(24).expand(3, -1)
    torch.testing.assert_close(score(model, *prompts, TRIE, items).sum(dim=-1), exact, atol=1e-4, rtol=1e-5)


def test_gradients_equal_the_replicated_computation():
    model = tiny.tiny_encoder_decoder("t5", noise=0.05)
    items = torch.tensor([[3, 0, 3], [22, 5, 1], [7, 19, 12]])
    weights = torch.randn(3, 3, TRIE.levels, generator=torch.Generator().manual_seed(0))
    (score(model, *tiny.padded(PROMPTS, "right"), TRIE, items) * weights).sum().backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    theirs = torch.stack(
        [tiny.replicated_log_probs(model, prompt, TOKENS)[row] for prompt, row in zip(PROMPTS, items, strict=True)]
    )
    (theirs * weights).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=2e-5, rtol=1e-4, msg=name)


def test_samples_carry_their_log_probabilities():
    model, prompts = tiny.tiny_encoder_decoder("t5"), tiny.padded(PROMPTS, "right")
    drawn = sample_groups(model, *prompts, TRIE, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(drawn.log_probs, score(model, *prompts, TRIE, drawn.items), atol=1e-5, rtol=1e-5)


def test_the_view_fits_the_model():
    assert isinstance(as_path_model(tiny.tiny_encoder_decoder("t5")), T5PathModel)
    view = as_path_model(tiny.tiny_model("qwen2"))
    assert type(view) is CausalPathModel and as_path_model(view) is view
    with pytest.raises(ValueError, match="bart: of encoder-decoders only t5 is supported"):
        as_path_model(tiny.tiny_encoder_decoder("bart"))
