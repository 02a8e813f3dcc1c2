"""What the quickstart shop's items look like and why people buy them: pictures, and wordings of a dozen interests.

A picture shows an interest as palette, pattern and shape. The backdrop takes its two colours and its pattern from the
item's first interest; every interest of the item, in order, adds its emblem in its own colour along the lower edge. The
product stands in front as a grey outline of its department, which says no more than the category does. Everything is
whole-number arithmetic on pixel coordinates, so no font and no drawing library can change a pixel.

Every phrase continues a sentence whose subject is the product, and is general enough for all product types, so that
an interest cuts across the categories. Nothing of this reaches a title, a brand or a category.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "LOOKS",
    "SIDE",
    "Look",
    "encode_png",
    "render",
    "FRAMES",
    "INTERESTS",
    "Interest",
]


SIDE = 64
"""Width and height of a picture in pixels."""

Pixels = NDArray[np.uint8]
Mask = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """How an interest shows: colour of the backdrop, colour of the pattern and the emblem, and both their forms."""

    backdrop: Colour
    ink: Colour
    pattern: Mask
    emblem: Mask


# Patterns are masks over the whole picture, emblems over coordinates whose origin is the emblem's centre.
LOOKS: dict[str, Look] = {
    "gentle on sensitive skin": Look(
        (250, 226, 226),
        (226, 138, 150),
        lambda x, y: (x % 12 - 6) ** 2 + (y % 12 - 6) ** 2 <= 9,
        lambda x, y: x * x + y * y <= 49,
    ),
    "gift-ready": Look(
        (184, 24, 44),
        (240, 200, 80),
        lambda x, y: (x % 16 < 3) | (y % 16 < 3),
        lambda x, y: (abs(x) < 7) & (abs(y) < 7),
    ),
    "studio-grade": Look(
        (36, 38, 44),
        (150, 156, 168),
        lambda x, y: y % 8 < 2,
        lambda x, y: (abs(x) < 3) | (abs(y) < 3),
    ),
    "travel-sized": Look(
        (120, 190, 240),
        (20, 70, 150),
        lambda x, y: (x + y) % 14 < 4,
        lambda x, y: abs(x) * 2 <= y + 7,
    ),
    "low-waste": Look(
        (206, 230, 176),
        (50, 130, 50),
        lambda x, y: (y + (x % 16 - 8) ** 2 // 8) % 10 < 4,
        lambda x, y: abs(x) + abs(y) <= 7,
    ),
    "slow evenings": Look(
        (52, 36, 92),
        (168, 140, 220),
        lambda x, y: ((x - 32) ** 2 + (y - 32) ** 2) % 400 < 100,
        lambda x, y: (x * x + y * y <= 49) & ((x - 4) ** 2 + y * y > 36),
    ),
    "beginner-friendly": Look(
        (255, 240, 130),
        (250, 150, 30),
        lambda x, y: (x // 8 + y // 8) % 2 == 0,
        lambda x, y: abs(x) * 2 <= 7 - y,
    ),
    "child-proof": Look(
        (255, 170, 210),
        (40, 190, 200),
        lambda x, y: (x % 20 < 8) & (y % 20 < 8),
        lambda x, y: (x * x + y * y <= 49) & (x * x + y * y >= 16),
    ),
    "artisan-made": Look(
        (214, 176, 130),
        (120, 70, 30),
        lambda x, y: (x - y) % 6 < 2,
        lambda x, y: (abs(y) < 6) & (abs(x) < 7) & (abs(y) > 1),
    ),
    "retro charm": Look(
        (236, 120, 60),
        (96, 60, 40),
        lambda x, y: (y + abs(x % 16 - 8)) % 12 < 5,
        lambda x, y: (abs(x) == abs(y)) | (abs(abs(x) - abs(y)) < 3),
    ),
    "outdoor-proof": Look(
        (96, 116, 80),
        (30, 50, 30),
        lambda x, y: y % 16 > abs(x % 16 - 8) * 2,
        lambda x, y: (abs(x) * 2 <= y + 7) & (y < 4) | (abs(x) < 2),
    ),
    "easy to handle": Look(
        (236, 244, 250),
        (60, 150, 150),
        lambda x, y: x % 10 < 4,
        lambda x, y: (abs(x) < 8) & (abs(y) < 3),
    ),
}

# Outlines of the departments, over coordinates whose origin is the middle of the product.
_OUTLINES: dict[str, Mask] = {
    "Home": lambda x, y: (x * x + y * y <= 144) & (y < 9),
    "Beauty": lambda x, y: (abs(x) <= 8) & (abs(y) <= 9) | (abs(x) <= 5) & (y > -15) & (y < 0),
    "Sports": lambda x, y: (abs(x) <= 7) & (abs(y) <= 14) | (abs(x) <= 10) & (abs(y) <= 7),
    "Stationery": lambda x, y: (abs(x) <= 9) & (abs(y) <= 13),
    "Audio": lambda x, y: (x * x + y * y <= 169) & ((x * x + y * y >= 64) | (y > 3)),
    "Art": lambda x, y: (abs(x) <= 13) & (abs(y) <= 9) | (abs(abs(x) - 8) <= 1) & (y > 0) & (y < 15),
    "Garden": lambda x, y: (abs(x) * 3 <= 36 - y) & (abs(y) <= 11),
}
_EMBLEM_ROW = 54
_EMBLEM_COLUMNS = (11, 32, 53)


def render(interests: Sequence[str], department: str, rng: np.random.Generator) -> bytes:
    """A picture as PNG bytes.

    Args:
        interests: one to three keys of ``LOOKS``, the main one first.
        department: the first word of the category path.
        rng: moves the pattern and the product, chooses the product's grey and adds grain.
    """
    main = LOOKS[interests[0]]
    shift_x, shift_y, move_x, move_y = (int(step) for step in rng.integers(0, 7, size=4))
    grey = int(rng.integers(90, 190))
    palette: list[Colour] = [main.backdrop, main.ink, (grey, grey, grey), (255, 255, 255)]
    y, x = np.indices((SIDE, SIDE), dtype=np.int64)
    pixels: Pixels = main.pattern(x + shift_x, y + shift_y).astype(np.uint8)  # 0 is the backdrop, 1 the ink
    pixels[_OUTLINES[department](x - 29 - move_x, y - 21 - move_y)] = 2
    for column, name in zip(_EMBLEM_COLUMNS, interests, strict=False):
        left, up = x - column, y - _EMBLEM_ROW
        inside = (abs(left) <= 9) & (abs(up) <= 9)
        pixels[inside] = 3
        palette.append(LOOKS[name].ink)
        pixels[inside & (abs(left) <= 7) & (abs(up) <= 7) & LOOKS[name].emblem(left, up)] = len(palette) - 1
    grain = rng.integers(0, 40, size=(SIDE, SIDE)) == 0
    pixels[grain] = 2
    return encode_png(pixels, palette)


def encode_png(pixels: Pixels, palette: Sequence[Colour]) -> bytes:
    """An indexed PNG: ``pixels`` (height, width) point into ``palette``."""
    height, width = pixels.shape
    image = Image.frombytes("P", (width, height), pixels.tobytes())
    image.putpalette([value for colour in palette for value in colour])
    with BytesIO() as stream:
        image.save(stream, "PNG")
        return stream.getvalue()


@dataclass(frozen=True)
class Interest:
    """A reason to buy: its name (known to the planted truth alone) and the ways a description can say it."""

    name: str
    phrases: tuple[str, ...]


INTERESTS = (
    Interest(
        "gentle on sensitive skin",
        (
            "is gentle on sensitive skin",
            "contains no latex, nickel or harsh dyes",
            "never leaves allergy-prone people itching",
            "was patch-tested with volunteers who have eczema",
            "suits those whose skin reacts to almost everything",
            "is free of perfume and known irritants",
        ),
    ),
    Interest(
        "gift-ready",
        (
            "arrives in a ribboned presentation box",
            "makes an easy birthday present",
            "can be given away without any wrapping",
            "comes with a blank greeting card and an envelope",
            "is a favourite on wedding wish lists",
            "is a safe choice for thanking a host",
        ),
    ),
    Interest(
        "studio-grade",
        (
            "is built to a professional standard",
            "was developed with people who do this for a living",
            "is a fixture in working studios",
            "meets the strict demands of experts",
            "is what specialists reach for first",
            "gives the exact, repeatable results that paid work demands",
        ),
    ),
    Interest(
        "travel-sized",
        (
            "slips easily into a carry-on",
            "is small enough for a weekend bag",
            "weighs next to nothing on a long trip",
            "packs neatly for the train or the plane",
            "takes hardly any room in a suitcase",
            "goes along on every business trip",
        ),
    ),
    Interest(
        "low-waste",
        (
            "is made with reclaimed materials",
            "ships without a scrap of plastic",
            "comes with a take-back promise for recycling",
            "is fully compostable or recyclable in the end",
            "leaves a third of the usual carbon footprint",
            "comes from a factory that runs on wind power",
        ),
    ),
    Interest(
        "slow evenings",
        (
            "helps you wind down after a long day",
            "belongs to slow, unhurried evenings",
            "brings a little calm to a noisy week",
            "turns ten spare minutes into a quiet ritual",
            "sets a soft and restful mood",
            "is a good companion for early nights",
        ),
    ),
    Interest(
        "beginner-friendly",
        (
            "needs no experience at all",
            "comes with a picture guide to the first steps",
            "forgives the mistakes that newcomers make",
            "makes sense from the very first try",
            "is what teachers suggest to new starters",
            "includes a free lesson for learners",
        ),
    ),
    Interest(
        "child-proof",
        (
            "survives toddlers and rough play",
            "has nothing about it that could hurt small fingers",
            "cleans up quickly after sticky little hands",
            "is sturdy enough for a busy family",
            "passes the nursery safety test",
            "can be dropped by a five-year-old without harm",
        ),
    ),
    Interest(
        "artisan-made",
        (
            "is finished by hand in a small workshop",
            "carries the signature of its maker",
            "is made in batches of fifty by one craftsperson",
            "follows a method passed down through four generations",
            "shows the small irregularities of true craft",
            "supports a cooperative of village artisans",
        ),
    ),
    Interest(
        "retro charm",
        (
            "looks as if it came from a 1960s catalogue",
            "wears the cheerful colours of the seventies",
            "has the nostalgic look of a corner diner",
            "reminds visitors of their grandparents' house",
            "borrows its lettering from old cinema posters",
            "would fit right into a black-and-white film",
        ),
    ),
    Interest(
        "outdoor-proof",
        (
            "shrugs off rain and mud",
            "is just as happy at a campsite",
            "keeps going in frost and strong wind",
            "was tried out on a week-long mountain hike",
            "does not mind sand, salt water or sun",
            "earns its place beside the campfire",
        ),
    ),
    Interest(
        "easy to handle",
        (
            "can be used with stiff or painful joints",
            "has large markings that are readable without glasses",
            "opens with very little strength",
            "works equally well for left-handers",
            "asks for no bending, twisting or heavy lifting",
            "was designed together with older users",
        ),
    ),
)

FRAMES = (
    "It {phrase}.",
    "This {noun} {phrase}.",
    "Best of all, it {phrase}.",
    "Customers often mention that it {phrase}.",
    "We chose it because it {phrase}.",
    "Unlike many others, it {phrase}.",
    "One more thing: it {phrase}.",
    "You will also notice that it {phrase}.",
)
"""Sentences that carry an interest's phrase."""
