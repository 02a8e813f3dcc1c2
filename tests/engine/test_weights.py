"""Entry 12 of the inputs that failed: no tensor of a loaded model is one that no file gave."""

import errno
import json
from io import BufferedWriter, RawIOBase
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tiny
from support.hub_folders import checkpoint
from transformers import AutoModel, AutoModelForCausalLM

from dig.config import UserError
from dig.config.schema import BackboneConfig
from dig.engine.artifacts import disk_full
from dig.engine.weights import load_complete, recorded_loading, write_checkpoint
from dig.generation.backbone import build_backbone

WHERE = "backbone.pretrained=here"


def load(folder: Path) -> torch.nn.Module:
    return load_complete(AutoModelForCausalLM.from_pretrained, folder, WHERE)


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Replaces tensors of the weights file; None takes one out."""
    state = load_file(folder / "model.safetensors")
    for name, value in tensors.items():
        del state[name]
        if value is not None:
            state[name] = value
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def saved(folder: Path, tied: bool = False, **settings: object) -> torch.nn.Module:
    model = tiny.tiny_model("llama", tie_word_embeddings=tied)
    model.save_pretrained(folder, **settings)
    return model


def test_whole_models_are_loaded_and_tied_heads_are_not_missing(tmp_path: Path):
    for tied in (False, True):
        model = saved(tmp_path / str(tied), tied)
        assert ("lm_head.weight" in load_file(tmp_path / str(tied) / "model.safetensors")) is not tied
        for name, value in load(tmp_path / str(tied)).state_dict().items():
            assert torch.equal(value, model.state_dict()[name])


@pytest.mark.parametrize("name", ["lm_head.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_tensor_that_is_missing_is_named(tmp_path: Path, name: str):
    saved(tmp_path)
    change(tmp_path, **{name: None})
    with pytest.raises(UserError, match=rf"^{WHERE}: its files lack 1 of the weights.*: {name};"):
        load(tmp_path)


def test_a_body_without_its_head_is_refused(tmp_path: Path):
    """Such folders come of saving AutoModel; every score would come from a random head."""
    saved(tmp_path / "whole")
    AutoModel.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "body")
    with pytest.raises(UserError, match=r"lm_head\.weight"):
        load(tmp_path / "body")


def test_other_shapes_shards_that_are_gone_and_damaged_files(tmp_path: Path):
    saved(tmp_path / "shape")
    change(tmp_path / "shape", **{"model.norm.weight": torch.zeros(7)})
    saved(tmp_path / "config")
    config = json.loads((tmp_path / "config" / "config.json").read_text()) | {"intermediate_size": 48}
    (tmp_path / "config" / "config.json").write_text(json.dumps(config))
    saved(tmp_path / "damaged")
    weights = tmp_path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for folder in ("shape", "config", "damaged"):
        with pytest.raises(UserError, match=WHERE) as caught:
            load(tmp_path / folder)
        assert "\n" not in str(caught.value)
    saved(tmp_path / "shards", max_shard_size="10KB")
    sorted((tmp_path / "shards").glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(OSError):  # the caller's own words follow
        load(tmp_path / "shards")


def test_a_backbone_that_lacks_weights_is_refused(tmp_path: Path):
    folder = checkpoint(tmp_path / "hub", "llama")
    change(folder, **{"model.layers.0.self_attn.q_proj.weight": None})
    with pytest.raises(UserError, match=r"backbone\.pretrained=.*q_proj"):
        build_backbone(BackboneConfig(pretrained=str(folder)), [4, 4], 64)


def test_what_a_library_loads_is_recorded_and_put_back(tmp_path: Path):
    saved(tmp_path)
    change(tmp_path, **{"model.norm.weight": None})
    original = AutoModelForCausalLM.from_pretrained(tmp_path)
    with recorded_loading() as loaded:
        model = AutoModelForCausalLM.from_pretrained(tmp_path)
        other, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert [(part, names) for part, names in loaded] == [(model, ["model.norm.weight"]), (other, ["model.norm.weight"])]
    assert report["missing_keys"] == {"model.norm.weight"} and type(original) is type(model)
    AutoModelForCausalLM.from_pretrained(tmp_path)
    assert len(loaded) == 2


class _Filling(RawIOBase):
    """A file on a disk with some bytes left."""

    def __init__(self, room: int) -> None:
        self.room = room

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:
        if len(content) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(content)
        return len(content)


@pytest.mark.parametrize("room", [0, 100, 15_000, 30_000])
def test_a_disk_that_fills_while_weights_are_written_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
):
    """Guard 8: torch tells of its archive's state, wherever in the file the disk ends."""
    monkeypatch.setattr(Path, "open", lambda *_: BufferedWriter(_Filling(room)))
    with pytest.raises(OSError, match="No space left") as caught:
        write_checkpoint({"state_dict": {"a": torch.zeros(10_000)}}, tmp_path / "weights.ckpt")
    assert disk_full(caught.value)
