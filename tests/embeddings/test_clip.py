"""open_clip models: from scratch, saved and loaded, and what cannot be had."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torchvision
from open_clip.push_to_hf_hub import save_for_hf
from PIL import Image
from safetensors.torch import save_file
from support import shop_clip
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from datamodules.items import open_picture
from dig.config import UserError
from dig.config.schema import AdaptConfig, VisualConfig
from dig.embeddings.clip import load_clip, save_clip
from dig.embeddings.locate import clip_fingerprint, needs_quick_gelu
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
    """When it is loaded, and when its fingerprint is asked for, which is before the first stage is built."""
    for call in (load_clip, clip_fingerprint):
        with pytest.raises(UserError) as raised:
            call(config)
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


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An architecture "small" of open_clip with weights under two tags, of which "quick" was trained with QuickGELU."""
    weights = tmp_path / "small.safetensors"
    save_file(random_state(0), weights)
    tags = {"quick": open_clip.pretrained._pcfg("file", quick_gelu=True), "plain": open_clip.pretrained._pcfg("file")}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small", shop_clip.ARCHITECTURE)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "small", tags)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: str(weights))
    return weights


@pytest.mark.filterwarnings("error:QuickGELU mismatch")
def test_a_tags_weights_have_the_activation_that_they_were_trained_with(published: Path, tmp_path: Path):
    """open_clip builds an architecture of this name with GELU and only warns; the vectors are other ones."""
    pixels = torch.randn(4, 3, 32, 32)
    quick, plain = (load_clip(VisualConfig(model="small", pretrained=tag)) for tag in ("quick", "plain"))
    model = open_clip.create_model("small", pretrained=str(published), force_quick_gelu=True).eval()
    torch.testing.assert_close(quick.encode_pictures(pixels), model.encode_image(pixels, normalize=True))
    assert not torch.allclose(quick.encode_pictures(pixels), plain.encode_pictures(pixels), atol=1e-4)
    save_clip(quick, tmp_path / "tuned")  # as adapt leaves it
    again = load_clip(VisualConfig(model=f"local-dir:{tmp_path / 'tuned'}"))
    torch.testing.assert_close(again.encode_pictures(pixels), quick.encode_pictures(pixels))
    assert quick.model_config != plain.model_config  # which is in the recipe of cached vectors


def test_vectors_with_another_activation_have_another_fingerprint():
    """Those that were computed with GELU are not taken for OpenAI's weights; all other fingerprints stay."""
    settings = {("ViT-L-14", "openai"): True, ("ViT-L-14-quickgelu", "openai"): False, ("ViT-L/14", "openai"): True}
    settings |= {("ViT-L-14", "laion2b_s32b_b82k"): False, ("ViT-B-16-SigLIP", "webli"): False}
    for (model, tag), quick in settings.items():
        config = VisualConfig(model=model, pretrained=tag)
        assert needs_quick_gelu(config) is quick
        assert clip_fingerprint(config) == f"{model}-{tag}-44136fa355b3678a" + ("-quickgelu" if quick else "")
    assert not needs_quick_gelu(shop_clip.config())


def test_a_file_of_weights_is_told_what_it_does_not_say(published: Path, caplog: pytest.LogCaptureFixture):
    """The same weights by file: whether they want QuickGELU or another preprocessing, nobody can tell but the user."""
    load_clip(VisualConfig(model="small", pretrained=str(published)))
    words = caplog.text
    caplog.clear()
    assert "does not say how its model was trained" in words and "QuickGELU for quick." in words
    tags = open_clip.pretrained._PRETRAINED["small"]
    del tags["quick"]
    load_clip(VisualConfig(model="small", pretrained=str(published)))
    assert not caplog.text
    tags["wide"] = open_clip.pretrained._slpcfg("file")
    load_clip(VisualConfig(model="small", pretrained=str(published)))
    words = caplog.text
    caplog.clear()
    assert "mean (0.5, 0.5, 0.5) for wide" in words and "resize_mode squash for wide" in words


def test_a_file_named_like_a_tag_is_the_file(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its hash is in the fingerprint, so its weights are what is read."""
    monkeypatch.chdir(tmp_path)
    torch.save(random_state(1), "plain")
    config = VisualConfig(model="small", pretrained="plain")
    assert first_weight(config) == float(random_state(1)["visual.conv1.weight"].flatten()[0])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_program_of_torch_is_refused_by_its_kind(published: Path, tmp_path: Path):
    """OpenAI's own files are TorchScript archives."""
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "ViT-S.pt")
    with pytest.raises(UserError, match=r"TorchScript archive.*name the tag"):
        load_clip(VisualConfig(model="small", pretrained=str(tmp_path / "ViT-S.pt")))


def hub_folder(folder: Path, **preprocess: object) -> Path:
    """A model with a tokenizer of its own, as open_clip writes it for the Hub."""
    padding, unknown = "[PAD]", "[UNK]"
    words = Tokenizer(WordLevel({padding: 0, unknown: 1, "red": 2, "thing": 3}, unk_token=unknown))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token=padding, unk_token=unknown).save_pretrained(folder)
    text = {**shop_clip.ARCHITECTURE["text_cfg"], "vocab_size": 8, "hf_tokenizer_name": "somebody/words"}
    architecture = {**shop_clip.ARCHITECTURE, "text_cfg": text}
    torch.manual_seed(0)
    model = open_clip.CLIP(**architecture)
    open_clip.set_model_preprocess_cfg(model, asdict(open_clip.transform.PreprocessCfg(size=32)) | preprocess)
    save_for_hf(model, open_clip.tokenizer.HFTokenizer(str(folder)), architecture, folder)
    return folder


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_folder_as_open_clip_writes_it_for_the_hub(tmp_path: Path, resize_mode: str, interpolation: str):
    """Weights, preprocessing and tokenizer are those of the folder, without a network."""
    settings = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.5, 0.9)}
    settings |= {"resize_mode": resize_mode, "interpolation": interpolation}
    folder = hub_folder(tmp_path / "clip", **settings)
    clip = load_clip(VisualConfig(model=f"local-dir:{folder}"))
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    theirs = theirs.eval()
    generator = np.random.default_rng(0)
    for shape in ((40, 70, 3), (70, 40, 3), (32, 32, 3), (5, 9, 3), (300, 20, 3)):
        colours = generator.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(colours).save(tmp_path / "a.png")
        pixels = open_picture(tmp_path / "a.png", clip.preprocess)
        assert pixels is not None and torch.equal(pixels, preprocess(Image.fromarray(colours)))
        with torch.no_grad():
            expected = theirs.encode_image(pixels[None], normalize=True)
            torch.testing.assert_close(clip.encode_pictures(pixels[None]), expected)
    assert clip.tokenize(["red thing"])[0, :3].tolist() == [2, 3, 0]
    plain = hub_folder(tmp_path / "plain")
    assert clip_fingerprint(VisualConfig(model=f"local-dir:{plain}")) != clip_fingerprint(
        VisualConfig(model=f"local-dir:{folder}")
    )


def test_a_fingerprint_follows_a_folders_contents_not_its_place(tmp_path: Path):
    folder = hub_folder(tmp_path / "clip")

    def fingerprint(folder: Path) -> str:
        return clip_fingerprint(VisualConfig(model=f"local-dir:{folder}"))

    seen = [fingerprint(folder)]
    shutil.copytree(folder, tmp_path / "elsewhere" / "other name")
    assert fingerprint(tmp_path / "elsewhere" / "other name") == seen[0]
    (folder / "README.md").write_text("a note")
    assert fingerprint(folder) == seen[0]
    weights = folder / "open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    seen.append(fingerprint(folder))
    for file, old, new in (
        ("open_clip_config.json", "0.48145466", "0.5"),
        ("open_clip_config.json", '"heads": 1', '"heads": 2'),
        ("tokenizer.json", '"red"', '"blue"'),
    ):
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
        seen.append(fingerprint(folder))
    assert len(set(seen)) == len(seen)


def test_a_folder_without_its_tokenizer_says_so(tmp_path: Path):
    folder = hub_folder(tmp_path / "clip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(UserError, match="its tokenizer somebody/words cannot be loaded"):
        load_clip(VisualConfig(model=f"local-dir:{folder}"))


@pytest.mark.parametrize("turned", [False, True])
def test_of_a_strip_the_middle_is_scaled(tmp_path: Path, turned: bool, monkeypatch: pytest.MonkeyPatch):
    """A pixel high and 3,000 long it took 600 MB, 30,000 long all there was; what is shown stays what it was."""
    clip, theirs = load_clip(shop_clip.config()), open_clip.transform.image_transform(32, is_train=False)
    generator = np.random.default_rng(0)

    def picture(width: int, height: int) -> Image.Image:
        colours = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(np.ascontiguousarray(colours.transpose(1, 0, 2)) if turned else colours)

    for width, height in ((64, 1), (65, 1), (300, 1), (301, 1), (333, 2), (2001, 4), (3000, 31)):
        strip = picture(width, height)
        level = 1 / 255 / 0.26  # of 256
        torch.testing.assert_close(clip.preprocess(strip), theirs(strip), atol=2.1 * level, rtol=0)
    scaled: list[tuple[int, int]] = []
    resize = torchvision.transforms.functional.resize

    def recorded(strip: Image.Image, *settings: object) -> Image.Image:
        scaled.append(strip.size)
        return resize(strip, *settings)

    monkeypatch.setattr(torchvision.transforms.functional, "resize", recorded)
    picture(60_000, 1).save(tmp_path / "a.png")
    pixels = open_picture(tmp_path / "a.png", clip.preprocess)
    assert pixels is not None and pixels.shape == (3, 32, 32) and max(scaled[0]) <= 65
