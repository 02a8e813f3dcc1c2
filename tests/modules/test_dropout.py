"""Dropout from outside: where it drops, when, and that nothing of it stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import tiny
from transformers import AutoConfig, AutoModelForCausalLM

from dig.config import UserError
from dig.config.schema import LoraConfig
from dig.generation.lora import add_lora
from dig.modules.dropout import add_dropout

TOKENS = torch.arange(4, 20).view(2, 8)


def logits(model: torch.nn.Module, train: bool, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return model.train(train)(input_ids=TOKENS).logits


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("adapted", [False, True])
def test_training_drops_and_evaluation_does_not(family: str, adapted: bool):
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0} if family == "gpt2" else {}
    plain = tiny.tiny_model(family, **none)
    dropping = tiny.tiny_model(family, **none)
    if adapted:
        dropping = add_lora(dropping, LoraConfig(dropout=0.0))
    assert add_dropout(dropping, 0.3) == 1 + 2 * 2  # the embedding, and two blocks a layer
    assert torch.equal(logits(dropping, train=False), logits(plain, train=False))
    first, again, other = (logits(dropping, train=True, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert not torch.allclose(first, logits(plain, train=True))


def test_what_a_block_adds_is_dropped_at_the_given_rate():
    model = tiny.tiny_model("qwen2").train()
    add_dropout(model, 0.25)
    seen = []
    model.model.layers[0].mlp.register_forward_hook(lambda module, _, output: seen.append(output.detach()))
    for seed in range(20):
        logits(model, train=True, seed=seed)
    assert torch.stack(seen).eq(0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_the_saved_model_knows_nothing_of_it(tmp_path: Path):
    model = tiny.tiny_model("llama")
    names = set(model.state_dict())
    add_dropout(model, 0.5)
    assert set(model.state_dict()) == names
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert torch.equal(logits(again, train=True), logits(model, train=False))


def test_no_dropout_leaves_the_model_alone_and_no_blocks_are_an_error():
    model = tiny.tiny_model("qwen2")
    assert add_dropout(model, 0.0) == 0 and not model.model.embed_tokens._forward_hooks
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(UserError, match="qwen2 has no attention"):
        add_dropout(model, 0.1)


def test_recurrent_blocks_drop_as_attention_does():
    """Entry 14: what takes attention's place in a hybrid or a Mamba adds to the stream like it."""
    layers = {"mamba": {"num_hidden_layers": 2}, "lfm2": {"layer_types": ["conv", "full_attention"]}}
    small = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 20}
    for kind, places in (("mamba", 3), ("lfm2", 5)):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**small, **layers[kind]}))
        assert add_dropout(model, 0.5) == places
