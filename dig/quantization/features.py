"""What a tokenizer is given of items: vectors of text, of pictures, and of behaviour."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dig.config.errors import UserError

__all__ = ["ItemFeatures", "check_features"]

_SHOWN = 5


class ItemFeatures(NamedTuple):
    """Vectors of the same items, row by row; what an experiment does not use is None."""

    text: Tensor | None
    """``(items, text_dim)``."""
    image: Tensor | None = None
    """``(items, image_dim)``; the rows of items without a picture mean nothing."""
    has_image: Tensor | None = None
    """``(items,)`` bool; there where ``image`` is."""
    behaviour: Tensor | None = None
    """``(items, behaviour_dim)`` collaborative vectors, a zero row for an item that nobody bought."""

    @property
    def items(self) -> int:
        """Number of items."""
        vectors = self.text if self.text is not None else self.image
        if vectors is None:
            raise ValueError("features need text or image vectors")
        return len(vectors)

    @property
    def text_dim(self) -> int:
        """Width of the text vectors, 0 where there are none."""
        return 0 if self.text is None else self.text.shape[1]

    @property
    def image_dim(self) -> int:
        """Width of the picture vectors, 0 where there are none."""
        return 0 if self.image is None else self.image.shape[1]

    def take(self, rows: Tensor | list[int] | slice) -> ItemFeatures:
        """The items at the given rows."""
        return ItemFeatures(*(None if part is None else part[rows] for part in self))

    def to(self, device: torch.device) -> ItemFeatures:
        """The same on a device."""
        return ItemFeatures(*(None if part is None else part.to(device) for part in self))

    def chunks(self, items: int) -> list[ItemFeatures]:
        """The items in pieces, without a copy."""
        return [self.take(slice(start, start + items)) for start in range(0, self.items, items)]


def check_features(features: ItemFeatures, item_ids: list[str]) -> None:
    """Refuses what no tokenizer can work with.

    Raises:
        UserError: parts disagree about the number of items, or a vector holds NaN or infinite values; names the items.
    """
    named = {name: part for name, part in features._asdict().items() if part is not None}
    for name, part in named.items():
        if len(part) != len(item_ids):
            raise UserError(f"{name} vectors of {len(part)} items do not fit a catalogue of {len(item_ids)}")
    if (features.image is None) != (features.has_image is None):
        raise UserError("image vectors need the mask of the items that have a picture, and the mask needs them")
    for name, part in named.items():
        if not part.is_floating_point():
            continue
        bad = ~torch.cat([chunk.isfinite().all(dim=1) for chunk in part.split(65_536)])
        if name == "image" and features.has_image is not None:
            bad &= features.has_image
        rows = bad.nonzero()[:, 0].tolist()
        if rows:
            shown = ", ".join(item_ids[row] for row in rows[:_SHOWN]) + (", …" if len(rows) > _SHOWN else "")
            raise UserError(f"the {name} vectors of {len(rows)} of {len(item_ids)} items are not finite: {shown}")
