"""Picture files as a person sees them: the one way in which encoders, models and pages are given a picture.

Pillow's ``convert("RGB")`` drops transparency, leaves a photograph as the sensor lay, and cuts 16-bit and float
values off at 255. Every viewer shows another picture, and so would people who judge what a model says of it.
"""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

__all__ = ["FORMATS", "UNREADABLE", "picture_content", "read_picture"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
"""What shops have, by Pillow's names; its other readers are never given a file from elsewhere. Cameras' JPEGs of
several pictures count as JPEG."""
_OF_FOLDERS = (*FORMATS, "TIFF")
"""What is read of pictures that lie in the data's own folder, as photographers and scanners leave them."""
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    Image.DecompressionBombError,
    MemoryError,
)
"""What Pillow raises for a file that is not a picture, or is damaged."""
_PAPER = (255, 255, 255, 255)
_PLAIN = ("RGB", "L", "P", "1", "CMYK", "YCbCr", "LAB", "HSV", "RGBX")
_AS_SEEN = b"\0as a person sees it"
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF
_SMALL_GREYS = {"L;2": 85, "L;4": 17}


def read_picture(path: Path) -> Image.Image | None:
    """The picture in RGB as a viewer shows it, or None where the file is of another format or damaged.

    Transparent parts show white paper, the picture is turned as its orientation tag says, grey values of 16 bits and
    of floating point are scaled to 8, and of an animation the first frame is taken. Colour profiles are not applied.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's hints about large or odd files
            with Image.open(path, formats=_OF_FOLDERS) as picture:
                return _as_seen(picture)
    except UNREADABLE:
        return None


def picture_content(path: Path) -> bytes:
    """What decides which pixels :func:`read_picture` gives, for keys of what was computed from a picture.

    It is the file's bytes. Pictures which ``convert("RGB")`` would show otherwise have a mark behind them, so that
    nothing is taken from a cache that was filled by reading them so.
    """
    content = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_OF_FOLDERS) as picture:
                plain = _is_plain(picture, content)
    except UNREADABLE:
        plain = True
    return content if plain else content + _AS_SEEN


def _is_plain(picture: Image.Image, content: bytes) -> bool:
    """Whether the picture is upright, opaque and of 8 bits."""
    # Pillow decodes a whole PNG to look for a tag that may come last, so its chunk's name is looked for first.
    if (picture.format != "PNG" or b"eXIf" in content or b"rientation" in content or "exif" in picture.info) and (
        picture.getexif().get(ExifTags.Base.Orientation, 1) != 1
    ):
        return False
    if _frame(picture) is not None:
        return False
    if picture.mode in _PLAIN and "transparency" not in picture.info:
        return True
    if not picture.has_transparency_data or picture.mode.startswith("I"):
        return False
    lowest, _ = _with_alpha(picture).getchannel("A").getextrema()
    return lowest == 255


def _as_seen(picture: Image.Image) -> Image.Image:
    raw, frame = _raw_mode(picture), _frame(picture)
    _stand_upright(picture)
    if frame is not None:
        return _on_paper(picture, frame)
    if picture.mode.startswith(("I", "F")):
        return _grey(picture).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    return _blended(_with_alpha(picture, raw))


def _blended(seen: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", seen.size, _PAPER), seen).convert("RGB")


def _frame(picture: Image.Image) -> tuple[int, int, int, int] | None:
    """The part of a GIF that its first frame covers, None where that is all; Pillow fills the rest with a colour."""
    tile = getattr(picture, "tile", None) if picture.format == "GIF" else None
    return None if not tile or tile[0][1] == (0, 0, *picture.size) else tile[0][1]


def _on_paper(picture: Image.Image, frame: tuple[int, int, int, int]) -> Image.Image:
    seen = Image.new("RGB", picture.size, _PAPER[:3])
    seen.paste(_blended(picture.convert("RGBA")).crop(frame), frame[:2])
    return seen


def _raw_mode(picture: Image.Image) -> str:
    """How the file writes its pixels; Pillow forgets it once they are loaded."""
    arguments = picture.tile[0][3] if getattr(picture, "tile", None) else ""  # type: ignore[attr-defined]
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _stand_upright(picture: Image.Image) -> None:
    picture.load()
    try:
        ImageOps.exif_transpose(picture, in_place=True)
    except UNREADABLE:  # a damaged tag says nothing; the pixels were read
        return


def _with_alpha(picture: Image.Image, raw: str | None = None) -> Image.Image:
    raw = _raw_mode(picture) if raw is None else raw
    key = picture.info.get("transparency")
    picture.load()
    # The transparent colour of a PNG is written in the file's own bits, which Pillow leaves as they are.
    if isinstance(key, int) and raw in _SMALL_GREYS:
        picture.info["transparency"] = key * _SMALL_GREYS[raw]
    elif isinstance(key, tuple) and raw.startswith("RGB;16"):
        picture.info["transparency"] = tuple(value >> 8 for value in key)
    return picture.convert("LA").convert("RGBA") if picture.mode == "La" else picture.convert("RGBA")


def _grey(picture: Image.Image) -> Image.Image:
    """8 bits of grey values of 16 or 32 bits or of floating point; what has no value shows white paper."""
    values = np.asarray(picture).astype(np.float32)
    hidden = np.isnan(values)
    key = picture.info.get("transparency")
    if isinstance(key, int):
        hidden |= values == key
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("not one grey value is finite")
    black, white = _black_and_white(picture, finite)
    share = (np.clip(np.where(hidden, white, values), black, white) - black) / (white - black)
    if _tag(picture, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        share = 1 - share
    share[hidden] = 1.0
    return Image.fromarray(np.rint(share * 255).astype(np.uint8))


def _black_and_white(picture: Image.Image, values: np.ndarray) -> tuple[float, float]:
    """The values that are black and white: those of the format, and where it has none those that fit the picture."""
    if picture.mode.startswith("I;16"):
        bits = _tag(picture, _BITS)
        return 0.0, float(2 ** (bits[0] if isinstance(bits, tuple) and 8 < bits[0] < 16 else 16) - 1)
    low, high = float(values.min()), float(values.max())
    if picture.format in ("PPM", "PNG"):  # Pillow scales both to 16 bits
        return 0.0, 65535.0
    if low >= -0.1 and high <= 1.1:  # a resampled picture runs a little over
        return 0.0, 1.0
    if low >= 0 and bool((values == np.rint(values)).all()):
        for white in (255.0, 65535.0):
            if high <= white:
                return 0.0, white
    return (low, high) if high > low else (low, low + 1)


def _tag(picture: Image.Image, number: int) -> Any:
    """A tag of a TIFF, None elsewhere."""
    tags = getattr(picture, "tag_v2", None)
    return None if tags is None else tags.get(number)
