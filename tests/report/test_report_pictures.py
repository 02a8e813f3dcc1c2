"""Histograms show their counts, on the terminal and as a picture."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from dig.report.pictures import SIDE, Thumbnails, histogram_png, histogram_text


def test_text_bars_are_in_proportion_and_fit():
    lines = histogram_text("users", ["1", "2-3", "4+"], [0, 1_000, 500], width=40)
    assert lines[0] == "users" and all(len(line) <= 40 for line in lines)
    assert lines[1] == "  1      0"
    full, half = lines[2].count("█"), lines[3].count("█")
    assert (lines[2].startswith("2-3  1,000  █") and full == 2 * half) or full == 2 * half + 1
    assert histogram_text("none", [], []) == ["none"]
    assert histogram_text("zero", ["a"], [0])[1] == "a  0"


def test_a_small_count_is_seen():
    assert histogram_text("t", ["a", "b"], [1_000, 10], width=60)[2].endswith("  ▌")


@pytest.mark.parametrize("bins", [1, 3, 60])
def test_the_picture_has_bars_in_proportion(bins: int, tmp_path: Path):
    counts = [100] + [50] * (bins - 1)
    path = tmp_path / "deep" / "x.png"
    histogram_png("users", "interactions", [str(number) for number in range(bins)], counts, path)
    picture = Image.open(path).convert("RGB")
    assert picture.size == (1200, 600)
    bar = (59, 110, 165)
    step = (1200 - 110 - 30) / bins
    heights = [
        sum(picture.getpixel((int(110 + (place + 0.5) * step), y)) == bar for y in range(600)) for place in range(bins)
    ]
    assert heights[0] == pytest.approx(600 - 90 - 70, abs=3)  # 100 is the top of the axis
    assert all(height == pytest.approx(heights[0] / 2, abs=3) for height in heights[1:])


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
