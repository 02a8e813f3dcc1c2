"""The cache of vectors: by content, in shards that nobody shares, and honest about what it cannot read."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dig.embeddings.cache import VectorCache, content_keys

TEXTS = ["red", "green", "blue", ""]


def filled(folder: Path) -> tuple[np.ndarray, torch.Tensor]:
    keys, vectors = content_keys(TEXTS), torch.arange(12.0).reshape(4, 3)
    cache = VectorCache(folder)
    cache.add(keys[:2], vectors[:2])
    cache.add(keys[2:], vectors[2:])
    return keys, vectors


def test_keys_follow_the_content():
    keys = content_keys(["a", "b", "a", b"a"])
    assert keys.shape == (4, 2)
    assert (keys[0] == keys[2]).all() and (keys[0] == keys[3]).all() and (keys[0] != keys[1]).any()


def test_vectors_come_back_in_any_order_in_this_process_and_the_next(tmp_path: Path):
    keys, vectors = filled(tmp_path)
    order = np.array([3, 0, 0, 2, 1])
    for cache in (VectorCache(tmp_path), VectorCache(tmp_path)):
        assert cache.find(keys).all() and not cache.find(content_keys(["yellow"])).any()
        torch.testing.assert_close(cache.gather(keys[order]), vectors[order])
    with pytest.raises(KeyError, match="1 of 2 contents"):
        VectorCache(tmp_path).gather(content_keys(["red", "yellow"]))


def test_what_is_there_twice_counts_once(tmp_path: Path):
    keys, vectors = filled(tmp_path)
    cache = VectorCache(tmp_path)
    cache.add(keys[:2], vectors[:2])  # the same shard again
    cache.add(keys[1:3], vectors[1:3])  # another one that overlaps
    torch.testing.assert_close(VectorCache(tmp_path).gather(keys), vectors)


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_shard_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str):
    keys, vectors = filled(tmp_path)
    shard = next(path for path in tmp_path.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:40] if damage == "cut" else b"no tensors")
    cache = VectorCache(tmp_path)
    assert cache.find(keys).sum() == 2
    assert "encoded again" in capsys.readouterr().out
    lost = ~cache.find(keys)
    cache.add(keys[lost], vectors[lost])
    torch.testing.assert_close(VectorCache(tmp_path).gather(keys), vectors)


def test_nothing_is_nothing(tmp_path: Path):
    cache = VectorCache(tmp_path / "none")
    none = content_keys([])
    cache.add(none, torch.empty(0, 3))
    assert cache.find(none).shape == (0,) and len(cache.gather(none)) == 0
    assert not (tmp_path / "none").exists()
