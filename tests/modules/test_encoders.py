"""Encoding through Trainer.predict: into the cache, in shards, and only what is not there yet."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import shop_clip, tiny

from callbacks.monitoring import VectorWriter
from datamodules.items import ContentDataModule, PictureFiles, TextFiles
from dig.embeddings.cache import VectorCache, content_keys
from dig.embeddings.clip import load_clip
from dig.modules.clip import PictureEncoding, TextEncoding

TEXTS = [f"text {number} " + "word " * (number % 5) for number in range(20)]


class Lengths:
    """Stands in for an encoder: a vector of a text's length; breaks down at a given batch."""

    name = "lengths"

    def __init__(self, breaks_at: int | None = None) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.seen: list[str] = []
        self.batches = 0
        self.breaks_at = breaks_at

    def encode_batch(self, texts: list[str]) -> torch.Tensor:
        self.batches += 1
        if self.batches == self.breaks_at:
            raise RuntimeError("the machine is gone")
        self.seen += texts
        return torch.tensor([[float(len(text)), 1.0] for text in texts])


def predict(encoder: Lengths, cache: VectorCache, texts: list[str], keys: np.ndarray) -> None:
    trainer = tiny.quiet_trainer(callbacks=[VectorWriter(cache, shard_items=4)])
    trainer.predict(
        TextEncoding(encoder), datamodule=ContentDataModule(TextFiles(texts, keys, 2)), return_predictions=False
    )


def test_an_interrupted_encoding_goes_on_where_it_was(tmp_path: Path):
    keys, cache = content_keys(TEXTS), VectorCache(tmp_path)
    with pytest.raises(RuntimeError, match="the machine is gone"):
        predict(Lengths(breaks_at=6), cache, TEXTS, keys)
    known = VectorCache(tmp_path).find(keys)
    assert known.sum() == 10, "five batches of two were encoded, and none is lost"
    rest, encoder = np.flatnonzero(~known), Lengths()
    predict(encoder, cache, [TEXTS[row] for row in rest], keys[rest])
    assert sorted(encoder.seen) == sorted(TEXTS[row] for row in rest)
    vectors = VectorCache(tmp_path).gather(keys)
    assert vectors[:, 0].tolist() == [len(text) for text in TEXTS]
    assert len(list(tmp_path.glob("*.safetensors"))) > 3


def test_pictures_are_encoded_and_broken_ones_are_not(tmp_path: Path):
    clip = load_clip(shop_clip.config())
    paths = shop_clip.write_pictures(tmp_path / "images", 5)
    paths[3].write_bytes(b"<html>")
    keys, cache = content_keys(path.read_bytes() for path in paths), VectorCache(tmp_path / "vectors")
    module = PictureEncoding(clip)
    trainer = tiny.quiet_trainer(callbacks=[VectorWriter(cache)])
    files = PictureFiles(paths, keys, clip.preprocess, 1)  # so that one batch is empty
    trainer.predict(module, datamodule=ContentDataModule(files), return_predictions=False)
    assert cache.find(keys).tolist() == [True, True, True, False, True]
    torch.testing.assert_close(cache.gather(keys[:3]).norm(dim=1), torch.ones(3))
