"""A very small open_clip model and a few pictures, for tests of the visual side."""

from pathlib import Path

import numpy as np
from PIL import Image

from dig.config.schema import AdaptConfig, VisualConfig

ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "yellow": (230, 220, 30)}


def config(**change: object) -> VisualConfig:
    return VisualConfig(model="tiny", config=ARCHITECTURE, adapt=AdaptConfig(epochs=1), **change)  # type: ignore[arg-type]


def write_pictures(folder: Path, count: int = 8) -> list[Path]:
    """Pictures of one colour each, with noise; picture n has the colour n modulo four."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    paths = []
    for number in range(count):
        colour = np.array(list(COLOURS.values())[number % 4])
        pixels = np.clip(colour + generator.integers(-20, 20, (40, 40, 3)), 0, 255).astype(np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def texts(count: int = 8) -> list[str]:
    return [f"a {list(COLOURS)[number % 4]} thing" for number in range(count)]
