"""What a model is shown of an item: its own words as fenced data, and a hash that changes with any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from json.encoder import encode_basestring as _quoted  # of json, what json.dumps(…, ensure_ascii=False) calls
from pathlib import Path
from typing import NamedTuple

import polars as pl

from dig.pictures import picture_content

__all__ = ["Evidence", "item_evidence", "picture_digest"]

LIMITS = {"title": 500, "brand": 100, "categories": 500, "description": 4000, "caption": 2000}
"""Characters of each field that a model is shown."""
_FIELDS = ("title", "brand", "categories", "description")


class Evidence(NamedTuple):
    """An item as a model is shown it.

    Attributes:
        item_id: the item; the model never sees it.
        text: JSON of its fields, in which no ``<`` or ``>`` stands, so that nothing in it can end the fence.
        picture: the picture's file, None where there is none.
        picture_hash: of its bytes, empty where there is none.
    """

    item_id: str
    text: str
    picture: Path | None = None
    picture_hash: str = ""

    @property
    def ref(self) -> str:
        """Eight letters, a hash of the text, that an answer repeats, so that it cannot be taken for another item's."""
        return blake2b(self.text.encode("utf-8", "replace"), digest_size=4).hexdigest()


def item_evidence(
    catalogue: pl.DataFrame, captions: Mapping[str, str], pictures: Mapping[str, tuple[Path, str]]
) -> Iterator[Evidence]:
    """Every item of the catalogue as evidence, in order, one at a time.

    Args:
        catalogue: ``item_id`` and, where known, ``title``, ``brand``, ``categories``, ``description``.
        captions: item id → caption.
        pictures: item id → file and hash of its picture; empty for a model that does not see.
    """
    there = [name for name in _FIELDS if name in catalogue.columns]
    columns = [catalogue["item_id"]]
    for name in there:
        column = catalogue[name]
        if column.dtype == pl.List(pl.String):
            column = column.list.drop_nulls().list.join(" > ")
        columns.append(column.cast(pl.String).str.slice(0, LIMITS[name]))
    heads = [f'"{name}": ' for name in there]
    for item_id, *values in pl.DataFrame(columns).iter_rows():
        fields = [head + _quoted(value) for head, value in zip(heads, values, strict=True) if value]
        if caption := captions.get(item_id):
            fields.append('"caption": ' + _quoted(caption[: LIMITS["caption"]]))
        text = "{" + ", ".join(fields) + "}"
        if "<" in text or ">" in text:
            text = text.replace("<", "\\u003c").replace(">", "\\u003e")
        yield Evidence(item_id, text, *pictures.get(item_id, (None, "")))


def picture_digest(path: Path) -> str:
    """A hash of what a model is shown of a picture."""
    return blake2b(picture_content(path), digest_size=12).hexdigest()
