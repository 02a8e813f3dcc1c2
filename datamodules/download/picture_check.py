"""Whether some bytes are a picture that is safe to decode."""

from __future__ import annotations

import io
import struct
import warnings

from PIL import Image, UnidentifiedImageError

from dig.pictures import FORMATS

__all__ = ["check_picture"]


def check_picture(data: bytes, max_side: int) -> str:
    """Decodes a picture to prove that it is one.

    Args:
        data: the file.
        max_side: longest side allowed, in pixels; looked at before anything is decoded.

    Returns:
        Its format in lower case, such as ``jpeg``.

    Raises:
        ValueError: with a short reason, if it is none, is damaged or is too large.
    """
    if not data:
        raise ValueError("empty")
    if data.lstrip()[:1] == b"<":
        raise ValueError("a web page or SVG, not a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's hints about large or odd files; the limits here decide
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                if max(picture.size) > max_side:
                    raise ValueError(f"{picture.width} × {picture.height} pixels, more than {max_side}")
                picture.load()
                return str(picture.format).lower()
    except UnidentifiedImageError:
        raise ValueError(f"not a picture in one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ValueError("too many pixels") from None
    except (OSError, SyntaxError, struct.error, EOFError, IndexError, KeyError, TypeError, MemoryError, OverflowError):
        raise ValueError("damaged") from None
