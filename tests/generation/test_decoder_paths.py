"""What dig computes itself of decoders of the Llama kind is what their own code computes, gradients included."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from support import tiny

from dig.config.schema import LoraConfig
from dig.generation import CatalogueTrie, beam_search, score
from dig.generation import decoder_paths as module
from dig.generation.causal_paths import CausalPathModel, next_token_loss
from dig.generation.decoder_paths import DecoderPathModel, decoder_paths
from dig.generation.lora import add_lora

FAMILIES = ("llama", "qwen2", "qwen3", "mistral")
SHARED = torch.randint(4, tiny.VOCABULARY, (10,), generator=torch.Generator().manual_seed(7))
PROMPTS = [torch.cat([SHARED, prompt]) for prompt in tiny.random_prompts()]
NEW_ROWS = [40, 41, 44, 59]


def adapted(family: str, dropout: float = 0.0, **keys: Any) -> peft.PeftModel:
    """A tiny model with adapters that say something, and trained rows."""
    model = add_lora(tiny.tiny_model(family, **keys), LoraConfig(rank=4, dropout=dropout), NEW_ROWS)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "trainable_tokens" in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def packed() -> tuple[torch.Tensor, torch.Tensor]:
    """Three samples, two of them in one row."""
    first, second, third = PROMPTS
    ids = torch.zeros(2, len(first) + len(second), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    ids[0] = torch.cat([first, second])
    mask[0] = torch.cat([torch.ones_like(first), torch.full_like(second, 2)])
    ids[1, : len(third)], mask[1, : len(third)] = third, 1
    return ids, mask


def batch_of(ids: torch.Tensor, mask: torch.Tensor) -> Any:
    """The last three tokens of each sample are learned."""
    ends = torch.nn.functional.pad(mask[:, 1:] != mask[:, :-1], (0, 1), value=True) & (mask > 0)
    learned = ends | ends.roll(-1, 1) | ends.roll(-2, 1)
    return tiny.training_tokens(ids, mask, ids.masked_fill(~(learned & (mask > 0)), -100))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_loss_and_gradients_are_those_of_the_models_own_code(family: str, tied: bool):
    model = adapted(family, tie_word_embeddings=tied)
    batch = batch_of(*packed())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    results = []
    for paths in (CausalPathModel(model), DecoderPathModel(model)):
        loss = next_token_loss(paths, batch, 0.1)
        results.append([loss.detach(), *torch.autograd.grad(loss, trained)])
    for ours, theirs in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_weights_can_be_trained(family: str):
    model = tiny.tiny_model(family)
    batch = batch_of(*packed())
    results = []
    for paths in (CausalPathModel(model), DecoderPathModel(model)):
        loss = next_token_loss(paths, batch)
        results.append([loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))])
    for ours, theirs in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=5e-4)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shared", [True, False])
def test_prompts_and_paths_have_the_states_of_the_models_own_code(family: str, side: str, shared: bool):
    model = adapted(family)
    own, decoder = CausalPathModel(model), DecoderPathModel(model)
    ids, mask = tiny.padded(PROMPTS if shared else tiny.random_prompts(), side)
    paths = torch.randint(4, tiny.VOCABULARY, (3, 4, 3), generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(decoder.run_tree(ids, mask, paths), own.run_tree(ids, mask, paths), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    states = [each.encode(ids, mask, spare=spare) for each, spare in ((own, 12), (decoder, 5))]  # one has to grow
    torch.testing.assert_close(states[1].hidden, states[0].hidden, atol=1e-4, rtol=1e-4)
    parents = torch.tensor([[1, 0, 3, 3]]).expand(3, -1)
    for again in range(2):
        for step in range(3):
            theirs, ours = (
                each.feed(state, paths[:, :, step], parents if step else None, step)
                for each, state in zip((own, decoder), states, strict=True)
            )
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        for state in states:
            state.rewind()
        assert again < 2


@torch.no_grad()
def test_beam_search_and_scores_are_the_same_with_the_adapter_on_and_off():
    model = adapted("llama")
    trie = CatalogueTrie(tiny.token_sequences(tiny.ragged_catalogue(), first=36), duplicates=True)
    prompts = tiny.padded(PROMPTS, "left")
    items = torch.arange(6).view(3, 2)
    for off in (False, True):
        with model.disable_adapter() if off else torch.no_grad():
            ours = beam_search(DecoderPathModel(model), *prompts, trie, 8)
            theirs = beam_search(CausalPathModel(model), *prompts, trie, 8)
            assert ours.items.equal(theirs.items)
            torch.testing.assert_close(ours.log_probs, theirs.log_probs, atol=1e-4, rtol=1e-4)
            scores = [score(kind(model), *prompts, trie, items) for kind in (DecoderPathModel, CausalPathModel)]
            torch.testing.assert_close(*scores, atol=1e-4, rtol=1e-4)


def test_what_prompts_share_is_computed_once(monkeypatch: pytest.MonkeyPatch):
    model = tiny.tiny_model("llama")
    decoder, seen = DecoderPathModel(model), []
    monkeypatch.setattr(module, "embedded", lambda layer, tokens: (seen.append(len(tokens)), layer(tokens))[1])
    decoder.encode(*tiny.padded(PROMPTS, "left"))
    assert seen == [len(SHARED) + sum(len(prompt) - len(SHARED) for prompt in PROMPTS)]
    decoder.encode(*tiny.padded(tiny.random_prompts(), "left"))
    assert seen[1] == sum(map(len, tiny.random_prompts()))


def test_checkpointed_layers_have_the_same_gradients():
    model = adapted("llama").train()
    batch = batch_of(*packed())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    plain = torch.autograd.grad(next_token_loss(DecoderPathModel(model), batch), trained)
    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    again = torch.autograd.grad(next_token_loss(DecoderPathModel(model), batch), trained)
    for ours, theirs in zip(again, plain, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_dropout_keeps_the_share_it_should_and_its_gradient_is_that_of_the_same_draw():
    model = adapted("llama", dropout=0.25).double().train()
    batch = batch_of(*packed())
    weight = next(parameter for name, parameter in model.named_parameters() if "lora_B" in name)

    def loss() -> torch.Tensor:
        torch.manual_seed(5)
        return next_token_loss(DecoderPathModel(model), batch)

    (gradient,) = torch.autograd.grad(loss(), [weight])
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        weight += 1e-4 * direction
        above = loss()
        weight -= 2e-4 * direction
        below = loss()
        weight += 1e-4 * direction
    assert float((above - below) / 2e-4) == pytest.approx(float((gradient * direction).sum()), rel=0.03)
    with torch.no_grad():
        plain = next_token_loss(CausalPathModel(model.eval()), batch)
        model.train()
        assert float(torch.stack([next_token_loss(DecoderPathModel(model), batch) for _ in range(200)]).mean()) == (
            pytest.approx(float(plain), rel=0.1)
        )


def test_who_is_computed_here(monkeypatch: pytest.MonkeyPatch):
    model = adapted("llama")
    assert type(decoder_paths(model)) is CausalPathModel  # narrow: stays as it is, to the digit
    monkeypatch.setattr(module, "_LEAST_WIDTH", 1)
    assert type(decoder_paths(model)) is DecoderPathModel
    assert type(decoder_paths(tiny.tiny_model("gpt2"))) is CausalPathModel
    assert type(decoder_paths(tiny.tiny_model("gemma"))) is CausalPathModel
    rotary = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    assert type(decoder_paths(tiny.tiny_model("llama", rope_parameters=rotary))) is CausalPathModel
    with torch.autocast("cpu", torch.bfloat16):
        assert type(decoder_paths(model)) is CausalPathModel
    handle = model.get_base_model().model.layers[0].mlp.register_forward_hook(lambda *_: None)
    assert type(decoder_paths(model)) is CausalPathModel  # somebody listens
    handle.remove()
    model.merge_adapter()
    assert type(decoder_paths(model)) is DecoderPathModel


def test_an_empty_prompt_is_seen_by_nobody():
    """A row of padding alone: paths behind it stand alone, as in the model's own code."""
    model = tiny.tiny_model("llama")
    ids, mask = tiny.padded(PROMPTS, "right")
    mask[1] = 0
    tokens = torch.randint(4, tiny.VOCABULARY, (len(ids), 2, 2), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        ours, theirs = (
            paths.run_tree(ids, mask, tokens)[1] for paths in (DecoderPathModel(model), CausalPathModel(model))
        )
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
