"""Model folders of anybody: no code of theirs runs, nobody is asked, and sizes are known before memory is taken."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from support import tiny
from transformers import AutoModelForCausalLM, T5ForConditionalGeneration

from dig.config import UserError
from dig.generation.backbone import load_backbone
from dig.received.models import check_model_folder
from dig.recommenders.tiger.model import load_t5

IDS = tiny.ragged_catalogue()
CODE = {"AutoConfig": "code.Own", "AutoModelForCausalLM": "code.Model", "AutoTokenizer": ["code.Own", "code.Own"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy's model; whoever asks at the terminal fails."""

    def asked(*_: object) -> str:
        raise AssertionError("somebody was asked at the terminal")

    monkeypatch.setattr(builtins, "input", asked)
    path = tmp_path / "model"
    tiny.scratch_backbone(IDS).save(path)
    marker = tmp_path / "ran"
    (path / "code.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    return path


def change(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_backbone(folder, IDS.sizes)
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message and not (folder.parent / "ran").exists()
    return message


def test_a_model_of_unknown_type_with_code_of_its_own_is_refused_unasked(folder: Path):
    """Guard 3: it asked at the terminal whether to run a stranger's code."""
    change(folder / "config.json", model_type="own", auto_map=CODE)
    assert "transformers has no model_type 'own'; it names code of its own, and that is never run" in refusal(folder)
    change(folder / "config.json", model_type=..., auto_map=CODE)
    assert "model_type is missing" in refusal(folder)
    change(folder / "config.json", model_type="qwen", auto_map=...)
    assert "has no model_type 'qwen'; did you mean " in refusal(folder)


def test_a_model_of_known_type_is_the_library_s_own(folder: Path):
    """Guard 3: the same weights and scores, whatever code lies beside them."""
    expected = load_backbone(folder, IDS.sizes).model.state_dict()
    change(folder / "config.json", auto_map=CODE)
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.Own", "code.Own"]})
    found = load_backbone(folder, IDS.sizes).model
    assert type(found).__module__.startswith("transformers.")
    assert all(value.equal(expected[name]) for name, value in found.state_dict().items())
    assert not (folder.parent / "ran").exists()


def test_everywhere_that_transformers_loads_or_makes_a_model_code_of_its_own_is_off():
    """Guard 3: each call of an Auto class, and each from_pretrained, says so or goes through what does."""
    root = Path(__file__).parents[2]
    calls = 0
    for path in [each for package in ("dig", "datamodules", "callbacks") for each in (root / package).rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for call in ("from_pretrained(", ".from_config(", "SentenceTransformer("):
            for begin in (at for at in range(len(text)) if text.startswith(call, at)):
                calls += 1
                end, depth = begin + len(call), 1
                while depth:
                    depth += {"(": 1, ")": -1}.get(text[end], 0)
                    end += 1
                assert "trust_remote_code=False" in text[begin:end], f"{path}: {text[begin:end]}"
    assert calls >= 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 1 << 20}, "is it of another model?"),
        ({"vocab_size": 10**12}, "config.json makes"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1,000,000,000, more than 1,000"),
        ({"hidden_size": "wide"}, "config.json makes no model"),
        ({"hidden_size": [64]}, "config.json makes no model"),
        ({"num_attention_heads": 0}, "config.json makes no model"),
        ({"model_type": ["qwen2"]}, "model_type is missing"),
        ({"attn_implementation": "somebody/kernel"}, "attn_implementation is 'somebody/kernel'; a received model"),
        ({"_attn_implementation": {"": "somebody/kernel"}}, "chooses neither code nor files"),
        ({"_attn_implementation_internal": "somebody/kernel"}, "chooses neither code nor files"),
        ({"experts_implementation": "somebody/kernel"}, "chooses neither code nor files"),
        ({"text_config": {"attn_implementation": "somebody/kernel"}}, "chooses neither code nor files"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config is"),
        ({"transformers_weights": "x.safetensors"}, "transformers_weights is 'x.safetensors'"),
        ({"dig_catalogue": "9" * 5000 + " x", "vocab_size": 3}, "of the weights or hold them in another shape"),
        ({"vocab_size": 3}, "of the weights or hold them in another shape"),
    ],
)
def test_a_configuration_is_held_against_the_weights(folder: Path, changes: dict[str, Any], said: str):
    """Guard 8: fields of a wrong type, and sizes that no memory holds."""
    change(folder / "config.json", **changes)
    assert said in refusal(folder)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", b"", "config.json cannot be read: it is empty"),
        ("config.json", b"[" * 200_000, "deeper than 64 levels"),
        ("config.json", b"[1]", "must hold keys and values, not a list"),
        ("model.safetensors", None, "model.safetensors cannot be read: it is missing"),
        ("model.safetensors", b"", "model.safetensors cannot be read: it is empty"),
        ("model.safetensors", b"cut", "model.safetensors cannot be read: it is cut off"),
        ("adapter_config.json", b'{"base_model_name_or_path": "somebody/else"}', "whose base model lies elsewhere"),
        ("tokenizer.json", b"", "cannot be loaded"),
        ("tokenizer.json", b"{}", "cannot be loaded"),
        ("tokenizer.json", b'{"version": "1.0", "tru', "cannot be loaded"),
        ("tokenizer.json", b"[" * 200_000, "cannot be loaded"),
        ("tokenizer_config.json", b"[1]", "cannot be loaded"),
        ("tokenizer_config.json", b"{}", "its tokenizer names no padding token"),
        ("tokenizer_config.json", None, "its tokenizer names no padding token"),
        ("generation_config.json", b"[1]", "cannot be loaded"),
    ],
)
def test_files_that_are_missing_or_damaged_are_one_line(folder: Path, name: str, content: bytes | None, said: str):
    """Guard 8: weights, configuration and tokenizer: missing, empty, cut, something else."""
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_bytes(content)
    assert said in refusal(folder)


def test_an_index_names_files_beside_it_alone(folder: Path):
    """Guard 8: weights in several files, of which one lies elsewhere."""
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    index = folder / "model.safetensors.index.json"
    names = list(tiny.scratch_backbone(IDS).model.state_dict())
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "part.safetensors")}))
    check_model_folder(folder, AutoModelForCausalLM)
    for weight_map in ({"a": "../part.safetensors"}, {"a": "/etc/passwd"}, {"a": 1}, {}, [1]):
        index.write_text(json.dumps({"weight_map": weight_map}))
        assert "model.safetensors.index.json" in refusal(folder)


def test_a_folder_of_another_kind_of_model_is_named(folder: Path):
    """Guard 8: a causal model where TIGER's T5 should be."""
    with pytest.raises(UserError, match="it is of a qwen2, and this stage writes a t5"):
        load_t5(folder)
    with pytest.raises(UserError, match="it is of a qwen2"):
        check_model_folder(folder, T5ForConditionalGeneration, ("t5",))


def test_what_transformers_has_of_itself_may_be_chosen(folder: Path):
    """Guard 3: a configuration of ours names none of it, and one that names the plain computation is read."""
    content = (folder / "config.json").read_text()
    assert not any(key in content for key in ("_implementation", "quantization_config", "transformers_weights"))
    change(folder / "config.json", attn_implementation="eager")
    assert load_backbone(folder, IDS.sizes).model is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"bos_token": "zzz"},
        {"eos_token": "zzz"},
        {"extra_special_tokens": ["zzz"]},
        {"added_tokens_decoder": {"0": {"content": "zzz"}}},
    ],
)
def test_a_tokenizer_of_more_tokens_than_the_model_is_refused(folder: Path, changes: dict[str, Any]):
    """Guard 8: whatever the tokenizer can give has a row in the model."""
    change(folder / "tokenizer_config.json", **changes)
    said = refusal(folder)
    assert "its tokenizer numbers 'zzz'" in said and "not of one run" in said
