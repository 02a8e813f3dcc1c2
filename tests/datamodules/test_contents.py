"""Texts and pictures in batches: sorted, dealt, decoded, and nothing broken passed off as a picture."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from support import shop_clip

from datamodules.items import ContentDataModule, PictureFiles, TextFiles, open_picture
from dig.embeddings.cache import content_keys

TEXTS = ["a", "bbbb", "cc", "ddddd", "eee"]


def plain(picture: Image.Image) -> torch.Tensor:
    return torch.tensor(picture.resize((2, 2)).getdata(), dtype=torch.float32)


def test_texts_come_longest_first_with_their_keys():
    keys = content_keys(TEXTS)
    batches = list(ContentDataModule(TextFiles(TEXTS, keys, 2)).predict_dataloader())
    assert [batch.texts for batch in batches] == [["ddddd", "bbbb"], ["eee", "cc"], ["a"]]
    for batch in batches:
        assert (content_keys(batch.texts) == batch.keys).all()


def test_every_rank_takes_its_turn():
    data = ContentDataModule(TextFiles(TEXTS, content_keys(TEXTS), 1))
    seen = []
    for rank in range(2):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        seen.append([batch.texts[0] for batch in data.predict_dataloader()])
    assert seen == [["ddddd", "eee", "a"], ["bbbb", "cc"]]


def test_a_broken_picture_is_left_out(tmp_path: Path):
    paths = shop_clip.write_pictures(tmp_path, 3)
    broken = {"page.jpg": b"<html>", "cut.png": paths[0].read_bytes()[:60], "empty.png": b""}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    every = [paths[0], *(tmp_path / name for name in broken), *paths[1:]]
    keys = content_keys(path.read_bytes() for path in every)
    batches = list(ContentDataModule(PictureFiles(every, keys, plain, 4)).predict_dataloader())
    assert [len(batch.pixels) for batch in batches] == [1, 2]
    assert (batches[0].keys == keys[:1]).all() and (batches[1].keys == keys[4:]).all()


def test_workers_change_nothing(tmp_path: Path):
    paths = shop_clip.write_pictures(tmp_path, 6)
    files = PictureFiles(paths, content_keys(path.read_bytes() for path in paths), plain, 2)
    alone, helped = (list(ContentDataModule(files, workers).predict_dataloader()) for workers in (0, 2))
    for first, second in zip(alone, helped, strict=True):
        assert torch.equal(first.pixels, second.pixels) and (first.keys == second.keys).all()


def test_a_bomb_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = shop_clip.write_pictures(tmp_path, 1)[0]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_picture(path, plain) is None
    assert open_picture(tmp_path / "nowhere.png", plain) is None
