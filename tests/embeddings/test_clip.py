"""open_clip models: from scratch, saved and loaded, and what cannot be had."""

from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import shop_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from dig.config import UserError
from dig.config.schema import AdaptConfig, VisualConfig
from dig.embeddings.clip import load_clip, save_clip
from dig.embeddings.locate import clip_fingerprint

TUNED = AdaptConfig(epochs=1)


def test_vectors_are_open_clips_own_normalised(tmp_path: Path):
    clip = load_clip(shop_clip.config())
    with Image.open(shop_clip.write_pictures(tmp_path)[0]) as picture:
        pixels = clip.preprocess(picture.convert("RGB"))[None]
    assert pixels.shape == (1, 3, 32, 32) and clip.dim == 16
    found = clip.encode_pictures(pixels)
    torch.testing.assert_close(found, clip.model.encode_image(pixels, normalize=True))
    words = clip.encode_texts(shop_clip.texts(5))
    torch.testing.assert_close(
        words, clip.model.encode_text(clip.tokenize(shop_clip.texts(5)), normalize=True).detach()
    )
    assert clip.encode_texts([]).shape == (0, 16)


def test_a_saved_model_is_the_same_model(tmp_path: Path):
    clip = load_clip(shop_clip.config())
    save_clip(clip, tmp_path)
    loaded = load_clip(VisualConfig(model=f"local-dir:{tmp_path}"))
    assert not any(path.suffix in (".pt", ".bin", ".pth") for path in tmp_path.iterdir())
    torch.testing.assert_close(loaded.encode_texts(["a red thing"]), clip.encode_texts(["a red thing"]))
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(loaded.encode_pictures(pixels), clip.encode_pictures(pixels))


def test_a_checkpoint_of_a_known_architecture(tmp_path: Path):
    model = open_clip.create_model("ViT-S-32-alt")
    save_file(
        {name: value.contiguous().clone() for name, value in model.state_dict().items()}, tmp_path / "w.safetensors"
    )
    config = VisualConfig(model="ViT-S-32-alt", pretrained=str(tmp_path / "w.safetensors"))
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(
            load_clip(config).encode_pictures(pixels), model.eval().encode_image(pixels, normalize=True)
        )
    other = replace(config, model="ViT-M-32-alt")
    with pytest.raises(UserError, match="checkpoint is of another architecture"):
        load_clip(other)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (VisualConfig(model="ViT-L-15", adapt=TUNED), "no such architecture; did you mean ViT-L-16?"),
        (
            VisualConfig(model="ViT-L-14", pretrained="openaii"),
            "neither a file nor a tag of ViT-L-14; did you mean openai?",
        ),
        (VisualConfig(model="local-dir:/nowhere/at/all"), "cannot be loaded"),
    ],
)
def test_what_is_unknown_is_named(config: VisualConfig, words: str):
    with pytest.raises(UserError) as raised:
        load_clip(config)
    assert words in str(raised.value).replace("\n", " ")


def test_a_damaged_checkpoint(tmp_path: Path):
    (tmp_path / "w.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="another architecture, or damaged"):
        load_clip(VisualConfig(model="ViT-S-32-alt", pretrained=str(tmp_path / "w.safetensors")))


def test_without_a_network_it_says_what_works_offline(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(
        open_clip.factory, "download_pretrained", lambda *_, **__: (_ for _ in ()).throw(OSError("no route"))
    )
    with pytest.raises(UserError, match="offline: name a checkpoint file"):
        load_clip(VisualConfig(model="ViT-B-32", pretrained="laion2b_s34b_b79k"))


def test_random_weights_are_refused_unless_they_are_tuned():
    with pytest.raises(UserError, match="random weights"):
        VisualConfig(model="ViT-B-32")
    with pytest.raises(UserError, match=r"embed_dim, vision_cfg and text_cfg"):
        VisualConfig(model="mine", config={"embed_dim": 3}, adapt=TUNED)


def test_a_fingerprint_follows_the_weights(tmp_path: Path):
    names = {
        clip_fingerprint(VisualConfig(model="ViT-B-32", pretrained=tag)) for tag in ("openai", "laion2b_s34b_b79k")
    }
    names.add(clip_fingerprint(shop_clip.config()))
    wider = shop_clip.ARCHITECTURE | {"embed_dim": 32}
    names.add(clip_fingerprint(VisualConfig(model="tiny", config=wider, adapt=TUNED)))
    file = tmp_path / "weights.safetensors"
    for content in (b"1", b"22"):
        file.write_bytes(content)
        names.add(clip_fingerprint(VisualConfig(model="ViT-B-32", pretrained=str(file))))
    assert len(names) == 6
    with pytest.raises(UserError, match="there is no folder"):
        clip_fingerprint(VisualConfig(model="local-dir:/nowhere/at/all"))
