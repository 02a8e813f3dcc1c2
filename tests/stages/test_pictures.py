"""pictures: vectors that were made of other pixels are not taken from a cache (entry 11 of the inputs that failed)."""

import base64
import io
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
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


class Eyes(BaseHTTPRequestHandler):
    """An endpoint that looks at the one picture that it is sent, and says which colour its middle and its edge have."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = [part for message in asked["messages"] if message["role"] == "user" for part in message["content"]]
        addresses = [part["image_url"]["url"] for part in parts if isinstance(part, dict) and "image_url" in part]
        text = "".join(part if isinstance(part, str) else part.get("text", "") for part in parts)
        interests = [{"interest": "things unseen", "confidence": 0.5, "evidence": "thing", "source": "text"}]
        for address in addresses:
            with Image.open(io.BytesIO(base64.b64decode(address.partition("base64,")[2], validate=True))) as picture:
                seen = [
                    _named(picture.getpixel(place)) for place in ((picture.width // 2, picture.height // 2), (2, 2))
                ]
            interests = [
                {"interest": f"{middle} things on {edge}", "confidence": 0.8, "evidence": middle, "source": "picture"}
                for middle, edge in [seen]
            ]
        answer = {"ref": re.findall(r'ref="(\w+)"', text)[-1], "reasoning": ["I see it."], "interests": interests}
        message = {"role": "assistant", "content": json.dumps(answer)}
        content = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": asked["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
        }
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""


def _named(pixel: tuple[int, ...]) -> str:
    colours = {**shop_clip.COLOURS, "white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}
    return min(colours, key=lambda name: sum(abs(a - b) for a, b in zip(colours[name], pixel, strict=True)))


def test_a_vision_language_miner_sees_over_http_what_people_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every item's own picture, as a JPEG in the request: on paper, turned, of 16 bits; a broken one is not sent."""
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    shop = tmp_path / "shop"
    write_tables(shop)
    exif = Image.Exif()
    exif[0x0112] = 6  # its left edge is shown above
    sides = np.zeros((80, 40, 3), np.uint8)
    sides[:, :20], sides[:, 20:] = shop_clip.COLOURS["blue"], shop_clip.COLOURS["yellow"]
    Image.fromarray(sides[:, :30]).save(shop / "3.png", exif=exif)
    Image.fromarray(np.full((40, 40), 128 * 257, np.uint16)).save(shop / "4.png")
    (shop / "5.png").write_bytes((shop / "6.png").read_bytes()[:300])
    with ThreadingHTTPServer(("127.0.0.1", 0), Eyes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = [
            "data.source=tables",
            f"data.path={shop}",
            "mining.miners=[eyes]",
            "mining.models.eyes.model=eyes",
            f"mining.models.eyes.base_url=http://127.0.0.1:{server.server_port}/v1",
            "mining.models.eyes.vision=true",
            "stages=[mine]",
            f"runs_dir={tmp_path}",
            "logging.progress=false",
        ]
        folder = run_experiment(load_config(None, settings)).artifacts["mine"]
        server.shutdown()
    interests = pl.read_parquet(folder / "interests.parquet")
    said = {row["item_id"]: row["text"] for row in interests.iter_rows(named=True)}
    names = list(shop_clip.COLOURS)
    expected = {f"i{item}": f"{names[item % 4]} things on {names[item % 4]}" for item in range(ITEMS)}
    expected |= {f"i{item}": "red things on white" for item in TRANSPARENT}
    expected |= {"i3": "blue things on blue", "i4": "grey things on grey"}
    expected["i5"] = "things unseen"
    assert said == expected
