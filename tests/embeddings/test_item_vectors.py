"""Entry 21 of the inputs that failed: vectors of one's own for items, from a file, by the items' ids."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import save_file

from dig.config import UserError
from dig.config.schema import EmbeddingConfig
from dig.embeddings.item_vectors import read_item_vectors, vectors_fingerprint

ITEMS = [f"i{number}" for number in range(12)]
VECTORS = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
FORMS = ("list.parquet", "array.parquet", "columns.parquet", "a.npz", "a.safetensors")


def write(folder: Path, form: str, items: list[str], vectors: np.ndarray) -> Path:
    path = folder / form
    ids = pl.Series("item_id", items)
    if form == "columns.parquet":
        pl.DataFrame([ids, *(pl.Series(f"d{n}", vectors[:, n]) for n in range(vectors.shape[1]))]).write_parquet(path)
    elif form.endswith(".parquet"):
        kind = pl.List(pl.Float64) if form.startswith("list") else pl.Array(pl.Float64, vectors.shape[1])
        pl.DataFrame([ids, pl.Series("v", vectors.tolist(), dtype=kind)]).write_parquet(path)
    elif form.endswith(".npz"):
        np.savez(path, item_ids=np.array(items), vectors=vectors)
    else:
        save_file({"vectors": np.ascontiguousarray(vectors)}, path, {"item_ids": json.dumps(items)})
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_catalogues_order_whatever_the_files(tmp_path: Path, form: str):
    order = np.random.default_rng(1).permutation(12)
    path = write(tmp_path, form, [ITEMS[row] for row in order] + ["gone"], np.vstack([VECTORS[order], np.ones(5)]))
    found = read_item_vectors(path, ITEMS)
    assert found.unknown == 1 and found.vectors.dtype == torch.float32
    assert torch.equal(found.vectors, torch.from_numpy(VECTORS))


def test_ids_may_be_whole_numbers(tmp_path: Path):
    pl.DataFrame({"item_id": [7, 10], "v": [[1.0], [2.0]]}).write_parquet(tmp_path / "a.parquet")
    np.savez(tmp_path / "a.npz", item_ids=np.array([7, 10]), vectors=np.array([[1], [2]]))
    for name in ("a.parquet", "a.npz"):
        assert read_item_vectors(tmp_path / name, ["10", "7"]).vectors.tolist() == [[2.0], [1.0]]


def test_the_fingerprint_is_the_contents(tmp_path: Path):
    first = write(tmp_path, "a.npz", ITEMS, VECTORS)
    before = vectors_fingerprint(first)
    moved = tmp_path / "moved.npz"
    moved.write_bytes(first.read_bytes())
    assert vectors_fingerprint(moved) == before
    assert vectors_fingerprint(write(tmp_path, "a.npz", ITEMS, VECTORS + 1)) != before
    with pytest.raises(UserError, match=r"embedding\.vectors=.*there is no such file"):
        vectors_fingerprint(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("form", FORMS)
def test_items_without_a_vector_or_with_two_are_counted_and_named(tmp_path: Path, form: str):
    few = write(tmp_path, form, ITEMS[2:], VECTORS[2:])
    with pytest.raises(UserError, match=r"2 of 12 items have no vector: 'i0', 'i1'$"):
        read_item_vectors(few, ITEMS)
    twice = write(tmp_path, form, [*ITEMS, "i3", "i3"], np.vstack([VECTORS, VECTORS[3:5]]))
    with pytest.raises(UserError, match="1 items have more than one row: 'i3'"):
        read_item_vectors(twice, ITEMS)
    strange = write(tmp_path, form, [f"0{item}" for item in ITEMS], VECTORS)
    with pytest.raises(UserError, match=r"12 of 12 items have no vector: .*, …; the file's ids look like '0i0', '0i1'"):
        read_item_vectors(strange, ITEMS)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("form", FORMS)
def test_values_that_are_not_finite_are_named(tmp_path: Path, form: str, value: float):
    broken = VECTORS.astype(np.float64)
    broken[4, 2] = value
    with pytest.raises(UserError, match=r"the vectors of 1 of 12 items hold values .*: 'i4'$"):
        read_item_vectors(write(tmp_path, form, ITEMS, broken), ITEMS)
    broken[4, 2] = 0
    other = write(tmp_path, form, [*ITEMS, "gone"], np.vstack([broken, np.full(5, np.nan)]))
    assert read_item_vectors(other, ITEMS).unknown == 1  # of an item that nobody asks for


def test_what_is_not_such_a_file_ends_in_a_line(tmp_path: Path):
    def parquet(name: str, **columns: object) -> Path:
        pl.DataFrame(columns).write_parquet(tmp_path / name)
        return tmp_path / name

    pickled, no_ids, text = tmp_path / "pickled.npz", tmp_path / "b.npz", tmp_path / "c.npz"
    np.savez(pickled, item_ids=np.array(ITEMS, dtype=object), vectors=VECTORS)
    np.savez(no_ids, vectors=VECTORS)
    np.savez(text, item_ids=np.array(ITEMS), vectors=np.array(ITEMS))
    save_file({"vectors": VECTORS}, tmp_path / "d.safetensors")
    save_file({"vectors": VECTORS}, tmp_path / "e.safetensors", {"item_ids": json.dumps(ITEMS[:3])})
    for ending in (".parquet", ".npz", ".safetensors"):
        (tmp_path / f"page{ending}").write_bytes(b"<html>")
    cases = {
        parquet("1.parquet", sku=["a"], v=[[1.0]]): "there is no column item_id (columns: sku, v)",
        parquet("2.parquet", item_id=["a", "b"], v=[[1.0], [1.0, 2.0]]): "another length",
        parquet("3.parquet", item_id=["a", "b", "c"], v=[[1.0, 2.0], [3.0, 4.0], None]): "1 rows have another length",
        parquet("4.parquet", item_id=["a"], v=[[1.0]], w=[[1.0]]): "2 columns hold lists (v, w)",
        parquet("5.parquet", item_id=["a"], title=["x"], v=[1.0]): "column title holds no numbers",
        parquet("6.parquet", item_id=["a"]): "no column beside item_id",
        parquet("7.parquet", item_id=[1.5], v=[1.0]): "the ids are Float64",
        parquet("8.parquet", item_id=["a", None], v=[1.0, 2.0]): "1 rows have no id",
        parquet("9.parquet", item_id=["a"], v=[["x"]]): "cannot be read",
        parquet("10.parquet", item_id=["a"], v=pl.Series([[]], dtype=pl.List(pl.Float32))): "at least one number",
        pickled: "np.array(ids, dtype=str)",
        no_ids: "must hold the arrays item_ids and vectors",
        text: "not text and numbers",
        tmp_path / "d.safetensors": "JSON list item_ids in its metadata",
        tmp_path / "e.safetensors": "3 ids and vectors of shape (12, 5)",
        tmp_path / "page.parquet": "cannot be read",
        tmp_path / "page.npz": "cannot be read",
        tmp_path / "page.safetensors": "cannot be read",
    }
    for path, words in cases.items():
        with pytest.raises(UserError) as caught:
            read_item_vectors(path, ["a", "b", "c"])
        message = str(caught.value)
        assert words in message and str(path) in message and "\n" not in message, message


def test_other_endings_are_refused_when_the_configuration_is_read():
    with pytest.raises(UserError, match=r"embedding\.vectors=a\.npy must end in \.parquet, \.npz, \.safetensors"):
        EmbeddingConfig(vectors="a.npy")
    EmbeddingConfig(vectors="~/A.PARQUET")
