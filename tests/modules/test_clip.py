"""Contrastive tuning: open_clip's loss, a real fit that learns, and pictures that find their texts."""

from pathlib import Path

import lightning
import pytest
import torch
import torch.nn.functional as F
from support import shop_clip, tiny

from datamodules.items import PairDataModule, PicturePairs, open_picture
from dig.config.schema import AdaptConfig
from dig.embeddings.clip import ClipModel, load_clip
from dig.modules.clip import CLIPModule


def fitted(folder: Path, epochs: int) -> tuple[ClipModel, lightning.Trainer, list[Path]]:
    lightning.seed_everything(0, verbose=False)
    clip = load_clip(shop_clip.config())
    paths = shop_clip.write_pictures(folder, 32)
    data = PairDataModule(PicturePairs(paths, shop_clip.texts(32), clip.preprocess, clip.tokenize), 16, seed=0)
    module = CLIPModule(clip, AdaptConfig(epochs=epochs, learning_rate=3e-3))
    trainer = tiny.quiet_trainer(max_epochs=epochs, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    return clip, trainer, paths


def test_a_fit_lets_pictures_find_their_texts(tmp_path: Path):
    clip, trainer, paths = fitted(tmp_path, epochs=25)
    with torch.inference_mode():
        pictures = clip.encode_pictures(torch.stack([open_picture(path, clip.preprocess) for path in paths]))
    best = (pictures @ clip.encode_texts(shop_clip.texts(4)).T).argmax(dim=1)
    assert (best == torch.arange(32) % 4).float().mean() > 0.9
    assert trainer.callback_metrics["train/matched"] > 0.2  # four colours: chance is 1 of 16
    assert trainer.lr_scheduler_configs[0].scheduler.get_last_lr()[0] == pytest.approx(0.0, abs=1e-6)


def test_loss_is_the_symmetric_cross_entropy(tmp_path: Path):
    clip = load_clip(shop_clip.config())
    paths = shop_clip.write_pictures(tmp_path, 6)
    data = PairDataModule(PicturePairs(paths, shop_clip.texts(6), clip.preprocess, clip.tokenize), 6, seed=0)
    module = CLIPModule(clip, AdaptConfig(epochs=1, learning_rate=1e-12, weight_decay=0.0))
    trainer = tiny.quiet_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    pixels, tokens = next(iter(data.train_dataloader()))
    clip.model.eval()
    with torch.no_grad():
        logits = clip.temperature * clip.encode_pictures(pixels) @ F.normalize(clip.model.encode_text(tokens), dim=1).T
        own = torch.arange(6)
        expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(float(expected), rel=1e-4)


def test_the_factor_of_the_cosines_stays_in_bounds(tmp_path: Path):
    clip = load_clip(shop_clip.config())
    paths = shop_clip.write_pictures(tmp_path, 4)
    clip.model.logit_scale.data.fill_(50.0)
    data = PairDataModule(PicturePairs(paths, shop_clip.texts(4), clip.preprocess, clip.tokenize), 4, seed=0)
    trainer = tiny.quiet_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(CLIPModule(clip, AdaptConfig(epochs=1)), datamodule=data)
    assert clip.temperature <= 100.01


def test_a_picture_that_vanishes_is_an_error(tmp_path: Path):
    clip = load_clip(shop_clip.config())
    paths = shop_clip.write_pictures(tmp_path, 4)
    data = PairDataModule(PicturePairs(paths, shop_clip.texts(4), clip.preprocess, clip.tokenize), 4, seed=0)
    paths[2].unlink()
    with pytest.raises(OSError, match=r"2\.png could be decoded before"):
        next(iter(data.train_dataloader()))
