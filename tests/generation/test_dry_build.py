"""A backbone is counted and tried without memory: the same number as the real one, and a line for what breaks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.gguf_files import write_gguf

from dig.config import UserError
from dig.config.schema import BackboneConfig
from dig.generation.backbone import build_backbone
from dig.generation.dry_build import count_parameters

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}


@pytest.mark.parametrize("model_type", ["qwen2", "llama", "gpt2", "opt"])
def test_it_has_the_parameters_of_the_real_one(model_type: str) -> None:
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 4} if model_type == "gpt2" else SMALL
    if model_type == "opt":
        sizes = {
            **{key: value for key, value in SMALL.items() if key != "intermediate_size"},
            "ffn_dim": 48,
            "word_embed_proj_dim": 32,
        }
    config = BackboneConfig(config={"model_type": model_type, **sizes})
    real = build_backbone(config, [4, 4], max_tokens=16).model
    assert count_parameters(config, [4, 4], 16) == sum(parameter.numel() for parameter in real.parameters())


def test_a_large_one_takes_no_memory() -> None:
    config = BackboneConfig(config={**SMALL, "hidden_size": 16384, "num_hidden_layers": 2, "intermediate_size": 65536})
    parameters = count_parameters(config, [4], 16)
    assert parameters is not None and parameters > 8e9, "32 GB as numbers"
    assert torch.rand(1).device.type == "cpu" and type(torch.rand(1)) is torch.Tensor


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"num_attention_heads": 5}, "num_attention_heads=5"),
        ({"num_attention_heads": 0}, "num_attention_heads=0"),
        (
            {"model_type": "llama", **SMALL, "num_attention_heads": 5},
            "hidden_size=32 cannot be cut into num_attention_h",
        ),
        ({"hidden_size": -1}, "backbone.config.hidden_size=-1"),
        ({"hidden_size": "wide"}, "backbone.config.hidden_size=wide"),
        ({"num_key_value_heads": 3}, "backbone.config.num_key_value_heads=3"),
        ({"intermediate_size": -4}, "backbone.config.intermediate_size=-4"),
        ({"rms_norm_eps": "small"}, "backbone.config.rms_norm_eps=small"),
        ({"num_hidden_layers": 0}, "backbone.config.num_hidden_layers=0"),
    ],
)
def test_what_cannot_be_built_or_breaks_in_its_first_step_is_one_line(keys: dict[str, Any], said: str) -> None:
    """Entry 17: `num_attention_heads=5`, which transformers builds and which breaks when it is asked."""
    with pytest.raises(UserError) as raised:
        count_parameters(BackboneConfig(config=keys), [4, 4], 16)
    message = str(raised.value)
    assert said in message and message.startswith("backbone.config") and "\n" not in message
    assert raised.value.exit_code == 2


def test_a_pretrained_one_is_counted_where_it_lies(tmp_path: Any) -> None:
    backbone = build_backbone(BackboneConfig(config=SMALL), [4, 4], max_tokens=16)
    backbone.save(tmp_path)
    expected = sum(parameter.numel() for parameter in backbone.model.parameters())
    assert count_parameters(BackboneConfig(pretrained=str(tmp_path)), [4, 4], 16) == expected
    assert count_parameters(BackboneConfig(pretrained=str(tmp_path / "none")), [4, 4], 16) is None


def test_one_in_a_gguf_file_is_counted_by_its_header(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    tiny = write_gguf(tmp_path / "tiny.gguf", "Q8_0")
    config = BackboneConfig(pretrained=str(tiny.path))
    assert count_parameters(config, [4], 8) == sum(weight.numel() for weight in tiny.model.parameters())
    assert count_parameters(BackboneConfig(pretrained="smollm2-135m"), [4], 8) == 134_515_008
    assert not (tmp_path / "home").exists()  # nothing was turned
