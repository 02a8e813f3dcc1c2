"""References: adapter off, weights as they began, a moving average; none disturbs the policy."""

from __future__ import annotations

import pytest
import torch
from support import tiny

from dig.config.schema import LoraConfig
from dig.generation import CatalogueTrie, score
from dig.generation.decoder_paths import DecoderPathModel
from dig.generation.factory import as_path_model
from dig.generation.lora import add_lora
from dig.rollouts.reference import AdapterOff, HeldWeights, reference_policy

TOKENS = torch.arange(4, 14).unsqueeze(0)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def shaken(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn_like(parameter)


@pytest.mark.parametrize("kind", ["auto", "frozen"])
@pytest.mark.parametrize("lora", [False, True])
def test_the_reference_is_the_policy_as_it_began_and_the_policy_comes_back(kind: str, lora: bool):
    model = tiny.tiny_model("qwen2")
    if lora:
        model = add_lora(model, LoraConfig(rank=2, dropout=0.0)).eval()
    began, reference = logits(model), reference_policy(kind, model, 0.9)
    assert isinstance(reference, AdapterOff if lora and kind == "auto" else HeldWeights)
    shaken(model)
    moved = logits(model)
    assert (moved - began).abs().max() > 0.01
    for _ in range(2):
        reference.follow(model)
        with reference.active(model):
            torch.testing.assert_close(logits(model), began)
        assert torch.equal(logits(model), moved)


def test_the_adapter_is_off_where_dig_computes_the_layers_itself():
    """Scores as rollouts ask for them, of a model wide enough for that; no weight is copied."""
    ids = tiny.ragged_catalogue(12)
    trie = CatalogueTrie(tiny.token_sequences(ids), duplicates=True)
    model = add_lora(tiny.tiny_model("llama", hidden_size=512), LoraConfig(rank=2, dropout=0.0)).eval()
    assert isinstance(as_path_model(model), DecoderPathModel)
    prompts = tiny.padded(tiny.random_prompts(), "right")
    items = torch.arange(6).view(3, 2)
    reference = reference_policy("auto", model, 0.9)
    assert isinstance(reference, AdapterOff) and not vars(reference)
    with torch.no_grad():
        began = score(model, *prompts, trie, items, 1.0)
        shaken(model)
        moved = score(model, *prompts, trie, items, 1.0)
        assert (moved - began).abs().max() > 0.01
        with reference.active(model):
            torch.testing.assert_close(score(model, *prompts, trie, items, 1.0), began)
        assert torch.equal(score(model, *prompts, trie, items, 1.0), moved)


def test_the_policy_comes_back_after_an_error():
    model = tiny.tiny_model("qwen2")
    reference = reference_policy("frozen", model, 0.9)
    shaken(model)
    moved = logits(model)
    with pytest.raises(RuntimeError, match="oops"), reference.active(model):
        raise RuntimeError("oops")
    assert torch.equal(logits(model), moved)


def test_the_average_follows_by_its_decay():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    reference = reference_policy("ema", model, 0.75)
    expected = 1.0
    for value in (2.0, 4.0, 0.0):
        model.weight.data.fill_(value)
        reference.follow(model)
        expected = 0.75 * expected + 0.25 * value
        with reference.active(model):
            assert model.weight.item() == pytest.approx(expected)
        assert model.weight.item() == value


def test_what_is_not_trained_is_not_copied():
    model = add_lora(tiny.tiny_model("qwen2"), LoraConfig(rank=2))
    held = sum(weight.numel() for weight in HeldWeights(model).weights)
    assert held == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert held < 0.2 * sum(p.numel() for p in model.parameters())


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="no adapter to switch off"):
        reference_policy("adapter", tiny.tiny_model("qwen2"), 0.9)
    with pytest.raises(ValueError, match="not 'copy'"):
        reference_policy("copy", tiny.tiny_model("qwen2"), 0.9)
