"""The path model of causal models: states, masks and logits are those of the model itself."""

from __future__ import annotations

import pytest
import torch
from support import tiny

from dig.generation import CatalogueTrie, beam_search
from dig.generation.causal_paths import CausalPathModel, prompt_positions

PROMPTS = tiny.random_prompts()


def states(model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Last hidden states (tokens, width) of one sequence, computed plainly."""
    return model.base_model(input_ids=tokens.unsqueeze(0)).last_hidden_state[0]


def test_positions_count_real_tokens_on_either_side():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    assert prompt_positions(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 2]]


@torch.no_grad()
@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_encode_feed_and_run_tree_give_the_plain_states(family: str, side: str):
    model = tiny.tiny_model(family)
    decoder = CausalPathModel(model)
    ids, mask = tiny.padded(PROMPTS, side)
    paths = torch.randint(4, tiny.VOCABULARY, (3, 4, 3), generator=torch.Generator().manual_seed(1))
    expected = torch.stack(
        [
            torch.stack([states(model, torch.cat([prompt, path]))[len(prompt) - 1 :] for path in row])
            for prompt, row in zip(PROMPTS, paths, strict=True)
        ]
    )  # (batch, paths, 1 + steps, width)

    after_prompt, after_tokens = decoder.run_tree(ids, mask, paths)
    torch.testing.assert_close(after_prompt, expected[:, 0, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after_tokens, expected[:, :, 1:], atol=1e-4, rtol=1e-4)

    state = decoder.encode(ids, mask)
    torch.testing.assert_close(state.hidden, expected[:, 0, 0], atol=1e-4, rtol=1e-4)
    own = torch.arange(4).expand(3, -1)
    for step in range(3):
        found = decoder.feed(state, paths[:, :, step], own if step else None, step)
        torch.testing.assert_close(found, expected[:, :, step + 1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_paths_may_continue_any_path():
    model, prompt = tiny.tiny_model("qwen2"), PROMPTS[0]
    decoder = CausalPathModel(model)
    state = decoder.encode(*tiny.padded([prompt], "right"))
    decoder.feed(state, torch.tensor([[5, 6]]), None, 0)
    decoder.feed(state, torch.tensor([[7, 8, 9]]), torch.tensor([[1, 0, 1]]), 1)  # 6-7, 5-8, 6-9
    found = decoder.feed(state, torch.tensor([[10, 11]]), torch.tensor([[2, 1]]), 2)  # 6-9-10, 5-8-11
    for path, tokens in enumerate([[6, 9, 10], [5, 8, 11]]):
        expected = states(model, torch.cat([prompt, torch.tensor(tokens)]))[-1]
        torch.testing.assert_close(found[0, path], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_logits_over_some_tokens_are_a_part_of_all(family: str):
    model = tiny.tiny_model(family)
    decoder, prompt = CausalPathModel(model), PROMPTS[0].unsqueeze(0)
    every = decoder.logits(model.base_model(input_ids=prompt).last_hidden_state)
    torch.testing.assert_close(every, model(input_ids=prompt).logits, atol=1e-5, rtol=1e-5)
    some = torch.tensor([40, 4, 17])
    hidden = model.base_model(input_ids=prompt).last_hidden_state
    torch.testing.assert_close(decoder.logits(hidden, some), every[..., some], atol=1e-5, rtol=1e-5)


def test_an_output_layer_with_a_bias_keeps_it():
    model = tiny.tiny_model("llama")
    decoder = CausalPathModel(model)
    decoder.head.bias = torch.nn.Parameter(torch.arange(tiny.VOCABULARY).float())
    hidden, some = torch.zeros(1, 32), torch.tensor([9, 5])
    assert decoder.logits(hidden, some).tolist() == [[9.0, 5.0]]


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "keys"), [("gemma2", {}), ("granite", {"logits_scaling": 3.0}), ("cohere", {"logit_scale": 0.3})]
)
def test_logits_that_an_architecture_rescales_are_rescaled(family: str, keys: dict[str, float]):
    model, prompt = tiny.tiny_model(family, **keys), PROMPTS[0].unsqueeze(0)
    hidden = model.base_model(input_ids=prompt).last_hidden_state
    every = CausalPathModel(model).logits(hidden)
    torch.testing.assert_close(every, model(input_ids=prompt).logits, atol=1e-5, rtol=1e-5)
    some = torch.tensor([40, 4, 17])
    torch.testing.assert_close(CausalPathModel(model).logits(hidden, some), every[..., some], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("family", "key"), [("qwen2", "max_position_embeddings"), ("mistral", "sliding_window")])
def test_a_prompt_beyond_the_model_is_refused(family: str, key: str):
    decoder = CausalPathModel(tiny.tiny_model(family, **{key: 12}))
    mask = torch.ones(2, 20)
    mask[:, :11] = 0
    decoder.check(59, mask, 3)  # 9 tokens and 3
    with pytest.raises(
        ValueError, match=f"a prompt of 20 tokens and 3 behind it are more than the model's {key} of 12"
    ):
        decoder.check(59, torch.ones(2, 20), 3)
    with pytest.raises(ValueError, match="the catalogue has the token 60, the model only 60"):
        decoder.check(60, mask, 3)


def test_the_mask_has_the_dtype_of_autocast():
    decoder = CausalPathModel(tiny.tiny_model("qwen2"))
    assert decoder.attention_dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert decoder.attention_dtype == torch.bfloat16
    assert CausalPathModel(tiny.tiny_model("qwen2").to(torch.bfloat16)).attention_dtype == torch.bfloat16


@torch.no_grad()
def test_a_compiled_model_ranks_the_same():
    model, trie = tiny.tiny_model("qwen2"), CatalogueTrie(tiny.token_sequences(tiny.ragged_catalogue()))
    plain = beam_search(model, *tiny.padded(PROMPTS, "left"), trie, 8)
    compiled = beam_search(CausalPathModel(model, compiled="eager"), *tiny.padded(PROMPTS, "left"), trie, 8)
    assert torch.equal(plain.items, compiled.items)
    torch.testing.assert_close(plain.log_probs, compiled.log_probs, atol=1e-5, rtol=1e-5)
