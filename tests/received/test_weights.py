"""Weights of anybody: the header against the file, and the file against the model, before memory is taken."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dig.config import UserError
from dig.generation.intrr import IntRR, IntRRSizes
from dig.received.weights import TensorHeader, load_module, read_section, read_tensors, weights_header
from dig.recommenders.item_knn import ItemKNN
from dig.recommenders.popularity import Popularity
from dig.recommenders.sasrec import SASRecConfig
from dig.recommenders.sasrec.model import SASRec


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[Any], end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


def test_a_header_is_read_as_the_library_wrote_it(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    tensors = {
        "a": torch.zeros(2, 3),
        "b": torch.zeros(4, dtype=torch.int64),
        "c": torch.zeros(0, dtype=torch.bfloat16),
    }
    save_file(tensors, path, {"format": "pt"})
    assert weights_header(path) == {
        "a": TensorHeader("F32", (2, 3)),
        "b": TensorHeader("I64", (4,)),
        "c": TensorHeader("BF16", (0,)),
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\x10\0\0", "it is cut off"),
        (raw(b"{}", length=1 << 40), "its header would be longer than the file"),
        (raw(b"[" * 200_000), "its header is not that of safetensors"),
        (raw(b"\xff{}"), "its header is not that of safetensors"),
        (raw([]), "its header is not that of safetensors"),
        (raw({}), "it holds no tensor"),
        (raw({"a": 1}), "its header says of 'a' what is not a tensor"),
        (raw({"a": entry([-1, -1], 4)}, bytes(4)), "what is not a tensor"),
        (raw({"a": entry(["1"], 4)}, bytes(4)), "what is not a tensor"),
        (raw({"a": entry([1], 4, "pickle")}, bytes(4)), "what is not a tensor"),
        (raw({"a": entry([1 << 40, 1 << 40], 4)}, bytes(4)), "a shape that does not fit its bytes"),
        (raw({"a": entry([2], 8)}, bytes(4)), "it is cut off: 'a' would end behind it"),
    ],
)
def test_what_is_not_weights_is_one_line(tmp_path: Path, content: bytes, said: str):
    """Guard 8: weights that are cut or empty, or promise what is not there."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        weights_header(path)
    assert str(caught.value).startswith(f"{path} cannot be read: ") and said in str(caught.value)


def test_a_header_beyond_all_models_is_not_read(tmp_path: Path):
    """Guard 8: a huge header, in a file that is as large (and empty)."""
    path = tmp_path / "model.safetensors"
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", 64 << 20))
        stream.truncate(65 << 20)
    with pytest.raises(UserError, match="its header has 64 MB"):
        weights_header(path)


def test_tensors_of_another_kind_are_named(tmp_path: Path):
    """Guard 8: counts that are not whole numbers, or not one for each item."""
    path = tmp_path / "counts.safetensors"
    for tensor in (torch.zeros(3), torch.zeros(3, 2, dtype=torch.int64)):
        save_file({"counts": tensor}, path)
        with pytest.raises(UserError, match=r"counts is .* not 1-dimensional int"):
            Popularity.load(tmp_path)
    save_file({"count": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="it has no tensor counts"):
        read_tensors(path, {"counts": ("int", 1)})


def test_neighbours_outside_the_catalogue_are_refused(tmp_path: Path):
    """Guard 8: a product of sparse matrices reads whatever memory an index points to."""
    good = {
        "data": torch.ones(2),
        "indices": torch.tensor([1, 0], dtype=torch.int32),
        "indptr": torch.tensor([0, 1, 2], dtype=torch.int32),
        "counts": torch.tensor([3, 1]),
        "decay": torch.tensor([0.5], dtype=torch.float64),
    }
    save_file(good, tmp_path / "neighbours.safetensors")
    assert ItemKNN.load(tmp_path).similarity.toarray().tolist() == [[0, 1], [1, 0]]
    for name, values in (("indices", [7, 0]), ("indices", [-1, 0]), ("indptr", [0, 9, 2]), ("decay", [0.5, 0.5])):
        bad = good | {name: torch.tensor(values, dtype=good[name].dtype)}
        save_file(bad, tmp_path / "neighbours.safetensors")
        with pytest.raises(UserError, match=r"neighbours\.safetensors cannot be read"):
            ItemKNN.load(tmp_path)


def sasrec(folder: Path, **changes: Any) -> Path:
    SASRec(9, SASRecConfig(hidden_size=8, layers=1, heads=2, max_history=5)).save(folder)
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value != "left out"}))
    return folder


def test_a_model_of_ours_is_read_as_it_was_saved(tmp_path: Path):
    model = SASRec.load(sasrec(tmp_path, scale="left out"))  # as before there were scales
    assert model.config.scale is None and not model.training
    histories = torch.tensor([[1, 2, 3]])
    assert torch.isfinite(model.next_logits(histories)).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": "8"}, 'hidden_size: "8" is not what hidden_size takes'),
        ({"hidden_size": True}, "hidden_size: true is not what"),
        ({"hidden_size": None}, "hidden_size: null is not what"),
        ({"hidden_size": -8}, "hidden_size: -8 is not between"),
        ({"hidden_size": 10**12}, "is not between"),
        ({"hidden_size": 1 << 20}, "items.weight has shape [9, 8], and [9, 1048576] in a model of its config.json"),
        ({"max_history": 10**6}, "positions.weight has shape [5, 8], and [1000000, 8]"),
        ({"layers": 1000}, "too few for 1,000 layers"),
        ({"layers": 2}, "lacks the tensor layers.1."),
        ({"layers": 0}, "layers"),
        ({"heads": 3}, "config.json"),
        ({"hiden_size": 8}, "hiden_size: unknown key; did you mean hidden_size?"),
        ({"hidden_size": "left out"}, "hidden_size is missing"),
        ({"dropout": 2.0}, "config.json: sasrec.dropout"),
    ],
)
def test_sizes_are_held_against_the_weights_before_memory_is_taken(tmp_path: Path, changes: dict[str, Any], said: str):
    """Guard 8: a bad configuration beside good weights; the sizes would take terabytes."""
    with pytest.raises(UserError) as caught:
        SASRec.load(sasrec(tmp_path, **changes))
    assert said in str(caught.value) and str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_codes_outside_their_levels_are_refused(tmp_path: Path):
    """Guard 8: an IntRR whose items have codes that the model lacks."""
    sizes = IntRRSizes([4, 4], 8, 1, 2, 16, 5, uid_size=4, assignment_size=8)
    codes = torch.tensor([[0, 1], [3, 3]])
    IntRR(codes, sizes).save(tmp_path)
    assert torch.equal(IntRR.load(tmp_path).codes, codes)
    IntRR(codes + 1, sizes).save(tmp_path)
    with pytest.raises(UserError, match="a code of an item lies outside"):
        IntRR.load(tmp_path)


@dataclass
class Section:
    """Of fields of all kinds."""

    words: list[str]
    table: dict[str, int]
    size: int | list[int]
    rate: float = 0.5


def test_a_section_has_its_types(tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_text('{"words": ["a"], "table": {"b": 1}, "size": [1, 2], "rate": 1, "model_type": "x"}')
    assert read_section(path, Section, ignored=("model_type",)) == Section(["a"], {"b": 1}, [1, 2], 1)
    for text in ('{"words": [1]}', '{"table": [1]}', '{"size": "1"}', '{"rate": "x"}', '{"words": ["a"]}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"config\.json"):
            read_section(path, Section)


def test_a_module_that_fails_to_be_made_is_one_line(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(2, 2)}, path)

    def make(header: dict[str, TensorHeader]) -> nn.Module:
        return nn.Linear(2, header["bias"].shape[0])

    with pytest.raises(UserError, match=r"its config\.json makes no model"):
        load_module(path, make)
    with pytest.raises(UserError, match=r"has tensors that a model of its config\.json lacks: weight"):
        load_module(path, lambda header: nn.Identity())
