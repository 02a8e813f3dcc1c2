"""pictures: vectors that were made of other pixels are not taken from a cache (entry 11 of the inputs that failed)."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support import shop_clip

import datamodules.fetching
import datamodules.items
import dig.stages.pictures
from datamodules.items import PictureFiles
from dig import load_config, run_experiment
from dig.config import UserError
from dig.embeddings.clip import load_clip, save_clip

ITEMS = 12
TRANSPARENT = (2, 7)


def write_tables(folder: Path) -> None:
    """Five customers and twelve items, each with a picture; two of these are transparent around a red thing."""
    folder.mkdir()
    rows = [f"u{user},i{(user + step) % ITEMS},{1000 + step}" for user in range(5) for step in range(ITEMS)]
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    items = [{"item_id": f"i{item}", "title": f"thing {item}", "image": f"{item}.png"} for item in range(ITEMS)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    shop_clip.write_pictures(folder, ITEMS)
    thing = np.zeros((40, 40, 4), np.uint8)
    for item in TRANSPARENT:
        thing[10 : 20 + item, 10:30] = (200, 30, 30, 255)
        Image.fromarray(thing).save(folder / f"{item}.png")


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., torch.Tensor]:
    """Builds the stage in one home and gives its vectors ``(items, dim)``, in the order of the items' numbers."""
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    write_tables(tmp_path / "shop")
    torch.manual_seed(0)
    save_clip(load_clip(shop_clip.config()), tmp_path / "clip")
    settings = [
        "data.source=tables",
        f"data.path={tmp_path / 'shop'}",
        f"visual.model=local-dir:{tmp_path / 'clip'}",
        "visual.adapt.epochs=0",
        "stages=[pictures]",
        f"runs_dir={tmp_path}",
        "logging.progress=false",
        "trainer.accelerator=cpu",
    ]

    def build(*others: str) -> torch.Tensor:
        folders = run_experiment(load_config("quickstart", [*settings, *others])).artifacts
        content = load_file(folders["pictures"] / "pictures.safetensors")
        assert bool(content["has_image"].all())
        return content["vectors"]

    return build


def test_only_pictures_that_are_read_otherwise_are_encoded_again(read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def old_reading(path: Path) -> Image.Image:
        with Image.open(path) as picture:
            return picture.convert("RGB")

    with monkeypatch.context() as before:
        before.setattr(datamodules.items, "read_picture", old_reading)
        before.setattr(dig.stages.pictures, "picture_content", Path.read_bytes)
        before.setattr(datamodules.fetching, "_READING", b"")
        old = read()
    encoded: list[int] = []

    class Counted(PictureFiles):
        def __init__(self, paths: list[Path], *rest: object) -> None:
            encoded.append(len(paths))
            super().__init__(paths, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(datamodules, "PictureFiles", Counted)
    new = read()
    assert encoded == [len(TRANSPARENT)]
    changed = (old != new).any(dim=1).nonzero()[:, 0].tolist()
    assert len(changed) == len(TRANSPARENT)
    again = read()
    assert torch.equal(again, new) and encoded == [len(TRANSPARENT)]


def test_other_weights_in_the_folder_are_read_anew(read, tmp_path: Path):
    """Entry 12: the same folder with other weights gave the vectors of the old ones."""
    weights = tmp_path / "clip" / "open_clip_model.safetensors"
    vectors = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        weights.unlink(missing_ok=True)
        torch.save(load_clip(shop_clip.config()).model.state_dict(), tmp_path / "clip" / "open_clip_pytorch_model.bin")
        vectors.append(read())
    assert not torch.equal(*vectors)
    (tmp_path / "clip" / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="there are no weights in"):
        read()


def test_a_moved_model_is_known_again_and_another_configuration_is_read_anew(
    read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Where a folder lies is in no key; what its weights, its architecture and its preprocessing say is."""
    encoded: list[int] = []

    class Counted(PictureFiles):
        def __init__(self, paths: list[Path], *rest: object) -> None:
            encoded.append(len(paths))
            super().__init__(paths, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(datamodules, "PictureFiles", Counted)
    first = read()
    (tmp_path / "clip").rename(tmp_path / "moved")
    assert torch.equal(read(f"visual.model=local-dir:{tmp_path / 'moved'}"), first) and len(encoded) == 1
    config = tmp_path / "moved" / "open_clip_config.json"
    content = json.loads(config.read_text())
    content["preprocess_cfg"] |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    config.write_text(json.dumps(content))
    other = read(f"visual.model=local-dir:{tmp_path / 'moved'}")
    assert encoded == [ITEMS, ITEMS] and not torch.allclose(other, first, atol=1e-3)


def test_vectors_that_are_not_numbers_are_refused(read, tmp_path: Path):
    weights = tmp_path / "clip" / "open_clip_model.safetensors"
    state = load_file(weights)
    state["visual.conv1.weight"][0] = float("nan")
    save_file(state, weights)
    with pytest.raises(UserError, match=r"visual\.model gives NaN or infinite values for 12 of 12 pictures"):
        read()
