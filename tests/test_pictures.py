"""Entry 11 of the inputs that failed: what a model is shown of a picture is what a person sees in a viewer.

Every picture is built here with known pixels, and what is expected of it is written out by hand.
"""

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image, TiffImagePlugin

from datamodules.download.pictures import check_picture
from datamodules.items import open_picture
from dig.interests import models as shown_to_miners
from dig.pictures import picture_content, read_picture
from dig.report.pictures import Thumbnails

RED, WHITE, BLACK = (200, 30, 30), (255, 255, 255), (0, 0, 0)


def pixels(path: Path) -> np.ndarray:
    picture = read_picture(path)
    assert picture is not None and picture.mode == "RGB"
    return np.asarray(picture)


def old_reading(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def red_thing(hidden: int = 0) -> np.ndarray:
    """A red square with nothing around it; under the nothing lies a colour that nobody sees."""
    thing = np.full((64, 64, 4), hidden, np.uint8)
    thing[..., 3] = 0
    thing[16:48, 16:48] = (*RED, 255)
    return thing


def saved(folder: Path, name: str, picture: Image.Image, **settings) -> Path:
    picture.save(folder / name, **settings)
    return folder / name


def png(path: Path, depth: int, colour: int, row: bytes, width: int, transparent: bytes) -> Path:
    """A PNG of one row, byte by byte: Pillow writes neither 2 bits nor transparent colours of 16."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
    body = chunk(b"tRNS", transparent) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
    return path


@pytest.mark.parametrize("name", ["rgba.png", "rgba.webp", "rgba.avif", "palette.png", "palette.gif", "grey.png"])
def test_what_is_transparent_shows_white_paper(tmp_path: Path, name: str):
    picture = Image.fromarray(red_thing())
    if name == "palette.png":  # a GIF is given its palette by Pillow
        picture = picture.quantize(8)
    if name.startswith("grey"):
        picture = picture.convert("LA")
    settings = {"webp": {"lossless": True}, "avif": {"quality": 100, "subsampling": "4:4:4"}}.get(name[5:], {})
    shown = pixels(saved(tmp_path, name, picture, **settings)).astype(int)
    middle = (81, 81, 81) if name.startswith("grey") else RED
    assert tuple(shown[0, 0]) == WHITE and abs(shown[32, 32] - middle).max() <= (2 if name.endswith("avif") else 0)
    assert (shown == 255).all(axis=2).mean() == 0.75


def test_colours_under_transparency_count_for_nothing(tmp_path: Path):
    transform = open_clip.transform.image_transform(64, is_train=False)
    paths = [saved(tmp_path, f"{hidden}.png", Image.fromarray(red_thing(hidden))) for hidden in (0, 255)]
    black, white = (open_picture(path, transform) for path in paths)
    assert torch.equal(black, white)


def test_half_transparent_pixels_are_mixed_with_the_paper(tmp_path: Path):
    half = np.full((2, 2, 4), (200, 100, 0, 128), np.uint8)
    expected = [round(colour * 128 / 255 + 255 * 127 / 255) for colour in (200, 100, 0)]
    np.testing.assert_allclose(pixels(saved(tmp_path, "half.png", Image.fromarray(half)))[0, 0], expected, atol=1)


def test_a_transparent_colour_is_found_whatever_the_bits_of_the_file(tmp_path: Path):
    two_bits = png(tmp_path / "2.png", 2, 0, b"\x1b", 4, struct.pack(">H", 0))  # greys 0 1 2 3 of 3; 0 is transparent
    assert pixels(two_bits)[0, :, 0].tolist() == [255, 85, 170, 255]
    two_bits = png(tmp_path / "2b.png", 2, 0, b"\x1b", 4, struct.pack(">H", 1))
    assert pixels(two_bits)[0, :, 0].tolist() == [0, 255, 170, 255]
    one_bit = png(tmp_path / "1.png", 1, 0, b"\x50", 4, struct.pack(">H", 0))  # black, white, black, white
    assert pixels(one_bit)[0, :, 0].tolist() == [255] * 4
    grey = png(tmp_path / "g16.png", 16, 0, struct.pack(">HHH", 1000, 0, 40_000), 3, struct.pack(">H", 1000))
    assert pixels(grey)[0, :, 0].tolist() == [255, 0, round(40_000 / 257)]
    colours = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0xFF00, 0, 0)
    colour = png(tmp_path / "c16.png", 16, 2, colours, 2, struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC))
    assert pixels(colour)[0].tolist() == [[255, 255, 255], [255, 0, 0]]


UPRIGHT = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
TURNED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, -1),
    7: np.rot90(UPRIGHT, 2).T,
    8: np.rot90(UPRIGHT),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
def test_pictures_are_turned_as_their_tag_says(tmp_path: Path, orientation: int, kind: str):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # JPEG squeezes 8 × 8 pixels together, so each value is a square of its own.
    large = np.kron(UPRIGHT, np.ones((16, 16), np.uint8))
    settings = {"png": {}, "webp": {"lossless": True}, "jpg": {"quality": 95}}[kind]
    path = saved(tmp_path, f"a.{kind}", Image.fromarray(large).convert("RGB"), exif=exif, **settings)
    shown = pixels(path)[8::16, 8::16, 0]
    np.testing.assert_allclose(shown, TURNED[orientation], atol=3)


def test_a_damaged_orientation_tag_leaves_the_picture_as_it_lies(tmp_path: Path):
    picture = Image.fromarray(np.zeros((4, 8, 3), np.uint8))
    path = saved(tmp_path, "a.jpg", picture, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff12")
    assert pixels(path).shape == (4, 8, 3)


GREYS = np.linspace(0, 1, 32)[None].repeat(2, axis=0)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.png", (GREYS * 65535).astype(np.uint16)),
        ("a.tiff", (GREYS * 65535).astype(np.uint16)),
        ("b.tiff", GREYS.astype(np.float32)),  # 0 to 1
        ("c.tiff", (GREYS * 255).round().astype(np.float32)),  # 8 bits in floating point
        ("d.tiff", (GREYS * 65535).round().astype(np.float32)),
        ("e.tiff", (GREYS * 9.5 - 3).astype(np.float32)),  # by their range
        ("f.tiff", (GREYS * 65535).astype(np.int32)),
        ("g.tiff", (GREYS * 100_000).astype(np.int32)),
        ("h.tiff", (GREYS * 1.05).astype(np.float32)),  # a little over, as resampling leaves it: cut off
    ],
)
def test_grey_values_of_more_than_8_bits_are_scaled(tmp_path: Path, name: str, values: np.ndarray):
    shown = pixels(saved(tmp_path, name, Image.fromarray(values)))
    expected = np.clip(GREYS * 1.05, 0, 1) if name.startswith("h") else GREYS
    np.testing.assert_allclose(shown[..., 0], expected * 255, atol=1)
    assert (shown == shown[..., :1]).all()


def test_other_grey_files(tmp_path: Path):
    big_endian = Image.fromarray(np.array([[0, 32768, 65535]], ">u2"))
    assert pixels(saved(tmp_path, "b.tiff", big_endian))[0, :, 0].tolist() == [0, 128, 255]
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0  # white is zero
    inverted = saved(tmp_path, "c.tiff", Image.fromarray(np.array([[0, 65535]], np.uint16)), tiffinfo=tags)
    assert pixels(inverted)[0, :, 0].tolist() == [255, 0]
    hole = saved(tmp_path, "d.tiff", Image.fromarray(np.array([[0, 0.5, 1, np.nan, -np.inf]], np.float32)))
    assert pixels(hole)[0, :, 0].tolist() == [0, 128, 255, 255, 0]
    nothing = saved(tmp_path, "e.tiff", Image.fromarray(np.full((2, 2), np.nan, np.float32)))
    assert read_picture(nothing) is None
    even = saved(tmp_path, "f.tiff", Image.fromarray(np.full((2, 2), 0.5, np.float32)))
    assert pixels(even)[0, 0].tolist() == [128] * 3


@pytest.mark.parametrize("suffix", ["bmp", "eps", "ico", "jp2", "pcx", "ppm", "sgi", "tga"])
def test_what_shops_do_not_have_is_not_a_picture(tmp_path: Path, suffix: str):
    """Guard 4: whatever a file is called, only JPEG, PNG, WebP, GIF and AVIF are read."""
    picture = Image.fromarray(np.full((16, 16, 3), RED, np.uint8))
    path = saved(tmp_path, f"a.{suffix}", picture)
    assert Image.open(path).size == (16, 16)  # a sound picture of its kind
    assert read_picture(path) is None and picture_content(path) == path.read_bytes()
    disguised = path.rename(tmp_path / "a.jpg")
    assert read_picture(disguised) is None and shown_to_miners.open_picture(disguised) is None
    assert Thumbnails({"a": disguised})("a") == ""
    with pytest.raises(ValueError, match=r"not a picture in one of JPEG, PNG, WEBP, GIF, AVIF|damaged"):
        check_picture(disguised.read_bytes(), 100)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "avif", "mpo"])
def test_what_shops_have_is_read(tmp_path: Path, suffix: str):
    """Guard 4: cameras' JPEGs of several pictures (MPO) are JPEGs with more behind them."""
    first, second = (Image.fromarray(np.full((16, 16, 3), colour, np.uint8)) for colour in (RED, BLACK))
    settings = {"save_all": True, "append_images": [second]} if suffix == "mpo" else {}
    path = saved(tmp_path, f"a.{suffix}", first, **settings)
    np.testing.assert_allclose(pixels(path)[8, 8], RED, atol=9)
    assert check_picture(path.read_bytes(), 100) == {"jpg": "jpeg"}.get(suffix, suffix)


def test_printers_colours_stay_right(tmp_path: Path):
    """Entry 11: CMYK was right before; Pillow turns Adobe's inverted JPEGs round by itself."""
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    adobe = saved(tmp_path, "a.jpg", cyan, quality=100)  # Pillow writes Adobe's marker and inverts
    assert b"Adobe" in adobe.read_bytes()
    np.testing.assert_allclose(pixels(adobe)[8, 8], (0, 255, 255), atol=4)


def test_of_an_animation_the_first_frame_is_shown(tmp_path: Path):
    first, second = (Image.fromarray(np.full((8, 8, 4), (*colour, 255), np.uint8)) for colour in (RED, BLACK))
    for name in ("a.gif", "a.webp", "a.png"):
        path = saved(tmp_path, name, first, save_all=True, append_images=[second], duration=100)
        np.testing.assert_allclose(pixels(path)[4, 4], RED, atol=8)


def test_a_frame_smaller_than_its_gif_stands_on_paper(tmp_path: Path):
    """Entry 11: viewers leave the rest of the canvas transparent; Pillow fills it with the first colour."""
    path = saved(tmp_path, "a.gif", Image.fromarray(np.full((8, 8, 3), RED, np.uint8)).quantize(4))
    content = bytearray(path.read_bytes())
    frame = content.index(b"\x2c", 13 + 3 * 2 ** ((content[10] & 7) + 1))
    content[6:10], content[frame + 1 : frame + 5] = struct.pack("<HH", 24, 16), struct.pack("<HH", 10, 4)
    path.write_bytes(content)
    expected = np.full((16, 24, 3), WHITE, np.uint8)
    expected[4:12, 10:18] = RED
    np.testing.assert_allclose(pixels(path), expected, atol=1)
    assert picture_content(path) != path.read_bytes()


def test_clip_miners_and_thumbnails_see_the_same(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    thing = red_thing()
    thing[16:48, 16:32] = (*BLACK, 255)  # its left half is black; turned, its upper half
    path = saved(tmp_path, "a.png", Image.fromarray(thing), exif=exif)
    expected = pixels(path)
    assert [tuple(expected[row, 32]) for row in (0, 20, 40)] == [WHITE, BLACK, RED]
    by_clip = open_picture(path, lambda picture: torch.from_numpy(np.array(picture)))
    by_miner = np.asarray(shown_to_miners.open_picture(path))
    assert (by_clip.numpy() == expected).all() and (by_miner == expected).all()
    thumbnail = Thumbnails({"a": path})("a").partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(thumbnail))) as small:
        np.testing.assert_allclose(np.asarray(small).astype(int), expected.astype(int), atol=60)
        assert np.abs(np.asarray(small).astype(int) - expected).mean() < 4


def test_what_was_read_right_keeps_its_pixels_and_its_key(tmp_path: Path):
    """Opaque upright pictures of 8 bits: vectors and answers that were paid for stay in use."""
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    opaque = np.dstack([colours, np.full((16, 16), 255, np.uint8)])
    exif = Image.Exif()
    exif[0x0112] = 1
    plain = [
        saved(tmp_path, "a.png", Image.fromarray(colours)),
        saved(tmp_path, "b.jpg", Image.fromarray(colours), exif=exif),
        saved(tmp_path, "c.png", Image.fromarray(opaque)),
        saved(tmp_path, "d.png", Image.fromarray(colours).convert("L")),
        saved(tmp_path, "e.gif", Image.fromarray(colours).convert("P")),
        saved(tmp_path, "f.png", Image.fromarray(colours).convert("1")),
        saved(tmp_path, "g.jpg", Image.fromarray(colours).convert("CMYK")),
    ]
    for path in plain:
        assert (pixels(path) == old_reading(path)).all()
        assert picture_content(path) == path.read_bytes()
    exif[0x0112] = 3
    other = [
        saved(tmp_path, "h.png", Image.fromarray(red_thing())),
        saved(tmp_path, "i.jpg", Image.fromarray(colours), exif=exif),
        saved(tmp_path, "j.png", Image.fromarray(colours), exif=exif),
        saved(tmp_path, "k.png", Image.fromarray((GREYS * 65535).astype(np.uint16))),
        saved(tmp_path, "m.png", Image.fromarray(red_thing()).quantize(8)),
    ]
    for path in other:
        assert picture_content(path).startswith(path.read_bytes())
        assert picture_content(path) != path.read_bytes(), path.name
    for name, content in (("page.jpg", b"<html>"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(content)
        assert read_picture(tmp_path / name) is None and picture_content(tmp_path / name) == content


def test_a_tiff_is_read_from_a_folder_and_not_taken_from_a_server(tmp_path: Path) -> None:
    """Guard 4, and entry 11 of what real inputs showed: scanners leave them, shops' servers do not."""
    path = saved(tmp_path, "a.tiff", Image.fromarray(np.full((16, 16, 3), RED, np.uint8)))
    np.testing.assert_allclose(pixels(path)[8, 8], RED, atol=1)
    with pytest.raises(ValueError, match="not a picture in one of JPEG, PNG, WEBP, GIF, AVIF"):
        check_picture(path.read_bytes(), 100)


SCENE = np.kron(np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
SHADE = np.kron(np.random.default_rng(1).integers(0, 256, (5, 8, 1), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))


def wide_png(path: Path, colour: int, samples: np.ndarray) -> Path:
    """A PNG of 16 bits: ``(height, width, channels)``, of the colour type that has so many."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = samples.shape
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def every_kind(folder: Path) -> dict[str, tuple[Path, np.ndarray]]:
    """A file of each kind, and the picture in RGB that it shows, both made from the same numbers."""
    upright, grey = Image.fromarray(SCENE), SHADE[..., 0]
    on_paper = np.rint(SCENE * (SHADE / 255.0) + 255 * (1 - SHADE / 255.0)).astype(np.uint8)
    three = SHADE.repeat(3, axis=2)
    grey_on_paper = np.rint(three * (SCENE[..., :1] / 255.0) + 255 * (1 - SCENE[..., :1] / 255.0)).astype(np.uint8)
    palette = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [90, 80, 70]], np.uint8)
    indices = grey // 64
    colours = Image.fromarray(indices)
    colours.putpalette(palette.ravel().tolist())
    turned = Image.Exif()
    turned[0x0112] = 6
    note = Image.Exif()
    note[0x010E] = "of a thing"
    clockwise = np.ascontiguousarray(np.rot90(SCENE, -1))
    seen = (np.array([0, 128, 255, 255])[indices] / 255.0)[..., None]
    half_seen = np.rint(palette[indices] * seen + 255 * (1 - seen)).astype(np.uint8)
    cyan = np.tile(np.array([0, 255, 255], np.uint8), (80, 128, 1))
    moving = {"save_all": True, "append_images": [Image.new("RGB", upright.size)]}
    opaque = np.full_like(SHADE, 255)

    def save(name: str, picture: Image.Image, **settings: object) -> Path:
        return saved(folder, name, picture, **settings)

    printed = Image.new("CMYK", upright.size, (255, 0, 0, 0))
    shades = Image.fromarray(grey)
    return {
        "colours": (save("a.png", upright), SCENE),
        "colours, JPEG": (save("a.jpg", upright, quality=100, subsampling=0, exif=note), SCENE),
        "colours, WebP": (save("a.webp", upright, lossless=True), SCENE),
        "colours, TIFF": (save("a.tiff", upright, compression="tiff_lzw"), SCENE),
        "interlaced GIF": (save("a.gif", colours), palette[indices]),
        "grey": (save("b.png", shades), three),
        "grey, JPEG": (save("b.jpg", shades, quality=100), three),
        "black and white": (save("c.png", Image.fromarray(grey > 127)), np.where(three > 127, 255, 0).astype(np.uint8)),
        "palette": (save("d.png", colours), palette[indices]),
        "palette, two bits": (save("e.png", colours, bits=2), palette[indices]),
        "palette, half transparent": (save("f.png", colours, transparency=bytes([0, 128, 255])), half_seen),
        "transparent": (save("g.png", Image.fromarray(np.dstack([SCENE, SHADE]))), on_paper),
        "transparent, WebP": (save("g.webp", Image.fromarray(np.dstack([SCENE, SHADE])), lossless=True), on_paper),
        "transparent, TIFF": (save("g.tiff", Image.fromarray(np.dstack([SCENE, SHADE]))), on_paper),
        "opaque with alpha": (save("h.png", Image.fromarray(np.dstack([SCENE, opaque]))), SCENE),
        "transparent grey": (save("i.png", Image.fromarray(np.dstack([grey, SCENE[..., 0]]))), grey_on_paper),
        "grey, 16 bits": (save("j.png", Image.fromarray(grey.astype(np.uint16) * 257)), three),
        "grey, 16 bits, TIFF": (save("j.tiff", Image.fromarray(grey.astype(np.uint16) * 257)), three),
        "grey, floating point": (save("k.tiff", Image.fromarray(grey.astype(np.float32) / 255)), three),
        "colours, 16 bits": (wide_png(folder / "l.png", 2, SCENE.astype(np.uint16) * 257), SCENE),
        "transparent, 16 bits": (wide_png(folder / "m.png", 6, np.dstack([SCENE, SHADE]).astype(int) * 257), on_paper),
        "transparent grey, 16 bits": (
            wide_png(folder / "n.png", 4, np.dstack([grey, SCENE[..., 0]]).astype(int) * 257),
            grey_on_paper,
        ),
        "print": (save("o.jpg", printed, quality=100), cyan),
        "print, TIFF": (save("o.tiff", printed), cyan),
        "turned": (save("p.png", upright, exif=turned), clockwise),
        "turned, JPEG": (save("p.jpg", upright, exif=turned, quality=100, subsampling=0), clockwise),
        "turned, WebP": (save("p.webp", upright, exif=turned, lossless=True), clockwise),
        "turned, AVIF": (save("p.avif", upright, exif=turned, quality=100, subsampling="4:4:4"), clockwise),
        "turned, TIFF": (save("p.tiff", upright, tiffinfo={274: 6}), clockwise),
        "turned by XMP": (save("q.webp", upright, xmp=_XMP, lossless=True), clockwise),
        "animated": (save("r.png", upright, **moving), SCENE),
        "animated, WebP": (save("r.webp", upright, lossless=True, **moving), SCENE),
        "several pages": (save("r.tiff", upright, **moving), SCENE),
    }


_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_a_model_is_given_what_open_clip_makes_of_the_picture_that_is_shown(tmp_path: Path, resize_mode: str):
    """Every kind of file, by the model's own preprocessing, beside open_clip's of the numbers that made the file."""
    transform = open_clip.transform.image_transform(64, is_train=False, resize_mode=resize_mode)
    level = 1 / 255 / 0.26  # of 256, after the division by the standard deviation
    for kind, (path, shown) in every_kind(tmp_path).items():
        given = open_picture(path, transform)
        assert given is not None, kind
        difference = (given - transform(Image.fromarray(shown))).abs()
        allowed = 2 if path.suffix in (".jpg", ".avif") else 1.01
        assert difference.mean() <= allowed * level and difference.max() <= 3 * allowed * level, kind


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "gif", "avif", "tiff"])
def test_a_cut_file_is_no_picture(tmp_path: Path, kind: str):
    """Half a picture is not what the shop shows; it counts as broken, in every format."""
    path = saved(tmp_path, f"a.{kind}", Image.fromarray(SCENE))
    content, whole = path.read_bytes(), pixels(path)
    refused = 0
    for share in [*np.linspace(0, 0.99, 25), 1 - 1 / len(content)]:
        path.write_bytes(content[: int(share * len(content))])
        shown = read_picture(path)
        refused += shown is None
        assert shown is None or (np.asarray(shown) == whole).all()  # a PNG ends with bytes that are not pixels
        assert picture_content(path) == path.read_bytes()
    assert refused >= 22


def test_the_smallest_and_long_pictures_are_read(tmp_path: Path):
    transform = open_clip.transform.image_transform(64, is_train=False)
    for size in ((1, 1), (1, 2), (3, 1), (1, 200), (400, 2)):
        path = saved(tmp_path, "a.png", Image.new("RGB", size, RED))
        given = open_picture(path, transform)
        assert given is not None and torch.equal(given, transform(Image.new("RGB", (64, 64), RED)))
    huge = saved(tmp_path, "b.png", Image.new("L", (6000, 4000), 200))
    given = open_picture(huge, transform)
    assert given is not None and torch.equal(given, transform(Image.new("RGB", (64, 64), (200, 200, 200))))
