"""The text of an item that the encoder reads: its fields and its mined interests, a line each (IEID's input)."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from dig.config.errors import UserError
from dig.config.schema import EmbeddingConfig
from dig.engine.folding import fold

__all__ = ["clean", "compose_texts", "count_empty"]

# A tag or a comment. A letter must follow the bracket, so that "5 < 6" and "<3" stay.
_TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>", re.DOTALL)
_UNSEEN = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)


def clean(text: str | None) -> str:
    """Plain text on one line: HTML entities decoded, tags dropped, white space folded; empty for None."""
    if not text:
        return ""
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _TAG.sub(" ", _UNSEEN.sub(" ", text))
    return " ".join(text.split())


def compose_texts(
    catalogue: pl.DataFrame,
    captions: Mapping[str, str],
    interests: pl.DataFrame,
    config: EmbeddingConfig,
) -> list[str]:
    """The text of every item, in the catalogue's order: ``config.fields`` in their order, then the interests in theirs.

    Parts are separated by a newline, confidences are left out, and empty parts are skipped (DeepInterestGR's
    IEID). Of interests that are equal after :func:`fold` the first stays.

    Args:
        catalogue: a row per item: ``item_id``, and ``title``, ``brand``, ``categories`` (a list), ``description`` as
            far as there are any.
        captions: image captions by item id.
        interests: ``item_id``, ``text``, ``label``, ... in rank order within an item.
        config: which fields and which interests join.

    Returns:
        A text per item; ``""`` where an item has nothing to say (see :func:`count_empty`).

    Raises:
        UserError: when no item has any text.
    """
    item_ids: list[str] = catalogue["item_id"].to_list()
    columns = [_field(catalogue, captions, item_ids, name) for name in config.fields]
    mined = _mined(interests, config.interests)
    texts = []
    for row, item_id in enumerate(item_ids):
        parts = [column[row] for column in columns]
        parts.extend(mined.get(item_id, ()))
        texts.append("\n".join(part for part in parts if part))
    if texts and not any(texts):
        raise UserError(
            f"none of the {len(texts)} items has any text in embedding.fields={config.fields} "
            f"with embedding.interests={config.interests}, so there is nothing to embed"
        )
    return texts


def count_empty(texts: Iterable[str]) -> int:
    """How many items have no text at all; they are embedded as an empty document."""
    return sum(not text for text in texts)


def _field(catalogue: pl.DataFrame, captions: Mapping[str, str], item_ids: Sequence[str], name: str) -> list[str]:
    if name == "caption":
        return [clean(captions.get(item_id)) for item_id in item_ids]
    if name not in catalogue.columns:
        return [""] * len(item_ids)
    if name == "categories":
        return [", ".join(filter(None, map(clean, path or ()))) for path in catalogue[name].to_list()]
    return [clean(text) for text in catalogue[name].to_list()]


def _mined(interests: pl.DataFrame, which: str) -> dict[str, list[str]]:
    """The chosen interests by item id, in rank order, each said once."""
    if which == "none" or interests.is_empty():
        return {}
    if which == "positive":
        interests = interests.filter(pl.col("label") == 1)
    by_item: dict[str, dict[str, str]] = {}
    for item_id, text in interests.select("item_id", "text").iter_rows():
        line = " ".join((text or "").split())
        if line:
            by_item.setdefault(item_id, {}).setdefault(fold(line), line)
    return {item_id: list(lines.values()) for item_id, lines in by_item.items()}
