"""Pictures within the page: small, made once, and none where there is none."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from dig.report.thumbnails import SIDE, Thumbnails


def opened(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_a_picture_is_shrunk_and_keeps_its_shape_and_colour(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.new("RGBA", (800, 400), (200, 10, 10, 255)).save(path)
    small = opened(Thumbnails({"a": path})("a"))
    assert small.size == (SIDE, SIDE // 2)
    assert all(abs(found - wanted) < 8 for found, wanted in zip(small.getpixel((9, 9)), (200, 10, 10), strict=True))


def test_what_is_no_picture_is_nothing(tmp_path: Path):
    broken = tmp_path / "b.jpg"
    broken.write_bytes(b"\xff\xd8 not a picture")
    thumbnails = Thumbnails({"b": broken, "gone": tmp_path / "gone.png"})
    assert [thumbnails(name) for name in ("b", "gone", "other", None)] == ["", "", "", ""]


def test_there_are_no_more_than_asked_for_and_each_is_made_once(tmp_path: Path):
    paths = {}
    for name in "abc":
        paths[name] = tmp_path / f"{name}.png"
        Image.new("RGB", (20, 20)).save(paths[name])
    thumbnails = Thumbnails(paths, most=2)
    first = [bool(thumbnails(name)) for name in "abcab"]
    assert first == [True, True, False, True, True]
    paths["a"].unlink()
    assert thumbnails("a")
