"""What a model is shown of an item: its own words as fenced data, and a hash that changes with any of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import polars as pl

__all__ = ["Evidence", "item_evidence", "picture_digest"]

LIMITS = {"title": 500, "brand": 100, "categories": 500, "description": 4000, "caption": 2000}
"""Characters of each field that a model is shown."""
_FIELDS = ("title", "brand", "categories", "description")


@dataclass(frozen=True, slots=True)
class Evidence:
    """An item as a model is shown it.

    Attributes:
        item_id: the item; the model never sees it.
        text: JSON of its fields, in which no ``<`` or ``>`` stands, so that nothing in it can end the fence.
        ref: eight letters, a hash of the text, that an answer repeats, so that it cannot be taken for another item's.
        picture: the picture's file, None where there is none.
        picture_hash: of its bytes, empty where there is none.
    """

    item_id: str
    text: str
    ref: str
    picture: Path | None = None
    picture_hash: str = ""


def item_evidence(
    catalogue: pl.DataFrame, captions: Mapping[str, str], pictures: Mapping[str, tuple[Path, str]]
) -> Iterator[Evidence]:
    """Every item of the catalogue as evidence, in order, one at a time.

    Args:
        catalogue: ``item_id`` and, where known, ``title``, ``brand``, ``categories``, ``description``.
        captions: item id → caption.
        pictures: item id → file and hash of its picture; empty for a model that does not see.
    """
    columns = [name if name in catalogue.columns else pl.lit(None).alias(name) for name in ("item_id", *_FIELDS)]
    for item_id, *values in catalogue.lazy().select(columns).collect().iter_rows():
        fields = {name: _cut(name, value) for name, value in zip(_FIELDS, values, strict=True) if value}
        if caption := captions.get(item_id):
            fields["caption"] = _cut("caption", caption)
        text = json.dumps(fields, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")
        picture, digest = pictures.get(item_id, (None, ""))
        ref = blake2b(text.encode("utf-8", "replace"), digest_size=4).hexdigest()
        yield Evidence(item_id, text, ref, picture, digest)


def _cut(name: str, value: str | list[str]) -> str:
    text = value if isinstance(value, str) else " > ".join(part for part in value if part)
    return text[: LIMITS[name]]


def picture_digest(path: Path) -> str:
    """A hash of a picture's bytes."""
    return blake2b(path.read_bytes(), digest_size=12).hexdigest()
