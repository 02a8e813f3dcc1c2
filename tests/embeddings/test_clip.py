"""open_clip models: from scratch, saved and loaded, and what cannot be had."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support import shop_clip

from dig.config import UserError
from dig.config.schema import AdaptConfig, VisualConfig
from dig.embeddings.clip import load_clip, save_clip
from dig.embeddings.locate import clip_fingerprint
from dig.engine.weights import CLIP_WEIGHTS, clip_weights

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
        (
            VisualConfig(model="ViT-L-15", pretrained="scratch", adapt=TUNED),
            "no such architecture; did you mean ViT-L-16?",
        ),
        (
            VisualConfig(model="ViT-L-14", pretrained="openaii"),
            "neither a file nor a tag of ViT-L-14; did you mean openai?",
        ),
        (VisualConfig(model="local-dir:/nowhere/at/all"), "there is no folder /nowhere/at/all"),
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


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "ViT-B-32"}, "visual.pretrained=scratch"),
        ({"model": "ViT-B-32", "pretrained": ""}, "random weights"),
        ({"model": "ViT-B-32", "pretrained": "  ", "adapt": TUNED}, "random weights"),
        ({"model": "ViT-B-32", "adapt": TUNED}, "visual.pretrained=scratch"),
        ({"model": "ViT-B-32", "pretrained": "scratch"}, "visual.adapt.epochs"),
        ({"model": "mine", "config": shop_clip.ARCHITECTURE}, "visual.adapt.epochs"),
        ({"model": "mine", "config": {"embed_dim": 3}, "adapt": TUNED}, "embed_dim, vision_cfg and text_cfg"),
        ({"model": "mine", "config": shop_clip.ARCHITECTURE, "pretrained": "", "adapt": TUNED}, "random weights"),
        ({"model": "local-dir:/a", "pretrained": "w.safetensors"}, "would not be read"),
        ({"model": "hf-hub:a/b", "pretrained": "openai"}, "would not be read"),
        ({"model": "localdir:/a"}, "local-dir"),
    ],
)
def test_random_weights_are_refused_unless_the_configuration_says_from_scratch(settings: dict, words: str):
    """Entry 12: a source of weights that is unset, empty, or would be passed over in silence."""
    with pytest.raises(UserError, match=words) as raised:
        VisualConfig(**settings)
    assert raised.value.exit_code == 2


def test_weights_that_are_named_come_before_an_architecture_of_a_parent_experiment(tmp_path: Path):
    """Entry 12: under ``extends: quickstart`` the folder was passed over, and the shop's architecture trained."""
    save_clip(load_clip(shop_clip.config()), tmp_path)
    wider = shop_clip.ARCHITECTURE | {"embed_dim": 32}
    config = VisualConfig(model=f"local-dir:{tmp_path}", config=wider, adapt=TUNED)
    assert not config.from_scratch and load_clip(config).dim == 16
    assert first_weight(config) == first_weight(VisualConfig(model=f"local-dir:{tmp_path}"))
    with pytest.raises(UserError, match=r"describes another; name visual\.pretrained"):
        load_clip(VisualConfig(model="ViT-B-32", config=wider, adapt=TUNED))
    with pytest.raises(UserError, match="no such architecture"):
        load_clip(VisualConfig(model="mine", pretrained="weights.bin", config=wider))


def test_from_scratch_is_told_and_keeps_its_fingerprint():
    config = VisualConfig(model="ViT-S-32-alt", pretrained="scratch", adapt=TUNED)
    assert config.from_scratch and "-scratch-" in clip_fingerprint(config)
    first, other = (next(load_clip(config).model.parameters()) for _ in range(2))
    assert not torch.equal(first, other)


def clip_folder(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    content = {"model_cfg": shop_clip.ARCHITECTURE, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def random_state(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {
        name: value.contiguous().clone() for name, value in load_clip(shop_clip.config()).model.state_dict().items()
    }


def first_weight(config: VisualConfig) -> float:
    return float(load_clip(config).model.visual.conv1.weight.detach().flatten()[0])


def test_a_folder_without_weights_is_refused_and_says_what_was_looked_for(tmp_path: Path):
    """Entry 12: such a folder gave random weights, and exit 0."""
    config = VisualConfig(model=f"local-dir:{clip_folder(tmp_path)}")
    (tmp_path / "weights.pt").write_bytes(b"")  # open_clip does not look for this ending
    for call in (load_clip, clip_fingerprint):
        with pytest.raises(UserError, match=r"no weights in .*open_clip_model\.safetensors.*pytorch_model\.bin"):
            call(config)


def test_the_weights_that_are_read_decide_the_fingerprint(tmp_path: Path):
    """Entry 12: other weights in a .bin kept the fingerprint, so that vectors of the old ones were used."""
    config = VisualConfig(model=f"local-dir:{clip_folder(tmp_path)}")
    seen: dict[float, str] = {}
    states = {seed: random_state(seed) for seed in range(4)}
    steps = [
        ("other.pth", 0),
        ("pytorch_model.bin", 1),
        ("open_clip_pytorch_model.bin", 2),
        ("open_clip_pytorch_model.bin", 3),
    ]
    for name, seed in steps:
        torch.save(states[seed], tmp_path / name)
        seen[first_weight(config)] = clip_fingerprint(config)
    assert list(seen) == [float(states[seed]["visual.conv1.weight"].flatten()[0]) for _, seed in steps]
    assert len(set(seen.values())) == 4
    torch.save(states[0], tmp_path / "pytorch_model.bin")  # not read beside the other
    assert clip_fingerprint(config) == seen[first_weight(config)]
    save_file(states[0], tmp_path / "open_clip_model.safetensors")
    assert clip_fingerprint(config) not in seen.values()
    assert first_weight(config) == float(states[0]["visual.conv1.weight"].flatten()[0])


def test_we_name_the_file_that_open_clip_reads(tmp_path: Path):
    names = [*CLIP_WEIGHTS, "a.safetensors", "b.bin", "c.pth", "a.bin", "open_clip_pytorch_model.pt"]
    generator = np.random.default_rng(0)
    for trial in range(200):
        folder = tmp_path / str(trial)
        folder.mkdir()
        for name in generator.choice(names, generator.integers(5), replace=False):
            (folder / name).touch()
        theirs = open_clip.factory._find_checkpoint_in_dir(folder)
        assert clip_weights(folder) == (None if theirs is None else Path(theirs))


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path):
    """Entry 12: open_clip loads strictly, so this was right before."""
    state = random_state(0)
    del state["visual.conv1.weight"]
    save_file(state, clip_folder(tmp_path) / "open_clip_model.safetensors")
    with pytest.raises(UserError, match=r"Missing key.*visual\.conv1\.weight"):
        load_clip(VisualConfig(model=f"local-dir:{tmp_path}"))


def test_a_model_of_the_hub_without_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Entry 12: where its configuration is in the cache and its weights are not, open_clip only logs."""
    configuration = clip_folder(tmp_path) / "open_clip_config.json"

    def fetch(model_id: str, filename: str | None = None, **_: object) -> str:
        if filename is None:
            raise FileNotFoundError("no weights")
        return str(configuration)

    monkeypatch.setattr(open_clip.factory, "download_pretrained_from_hf", fetch)
    with pytest.raises(UserError, match="Required pretrained weights"):
        load_clip(VisualConfig(model="hf-hub:somebody/clip"))


class Spiteful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_folder_never_runs_code(tmp_path: Path):
    clip_folder(tmp_path / "pickle")
    torch.save({"state_dict": Spiteful(tmp_path / "ran")}, tmp_path / "pickle" / "open_clip_pytorch_model.bin")
    with pytest.raises(UserError, match="pickled objects"):
        load_clip(VisualConfig(model=f"local-dir:{tmp_path / 'pickle'}"))
    folder = clip_folder(tmp_path / "code")
    text = {
        **shop_clip.ARCHITECTURE["text_cfg"],
        "hf_tokenizer_name": "mine",
        "tokenizer_kwargs": {"trust_remote_code": True},
    }
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {**shop_clip.ARCHITECTURE, "text_cfg": text}, "preprocess_cfg": {}})
    )
    save_file(random_state(0), folder / "open_clip_model.safetensors")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Tokenizer: pass\n")
    settings = {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": [None, "evil.Tokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoConfig": "evil.Config"}}))
    with pytest.raises(UserError):
        load_clip(VisualConfig(model=f"local-dir:{folder}"))
    assert not (tmp_path / "ran").exists()


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
