"""Semantic IDs: health of the codebooks, the picture of the tree, and the tree to walk through."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from dig.report.data import ReportData
from dig.report.tree import code_tree
from dig.report.values import is_list

__all__ = ["semantic_ids"]

_OF_LEVELS = ("sizes", "usage", "perplexity", "dead_codes", "purity", "neighbour_lift")


def semantic_ids(data: ReportData) -> dict[str, Any]:
    """A row a codebook level, the other figures, and the tree in both forms."""
    health = data.health
    columns = {key: health[key] for key in _OF_LEVELS if is_list(health.get(key))}
    count = max((len(column) for column in columns.values()), default=0)
    return {
        "levels": [
            {key: column[level] for key, column in columns.items() if level < len(column)} for level in range(count)
        ],
        "facts": {key: value for key, value in health.items() if not is_list(value)},
        "picture": _picture(data),
        "tree": code_tree(data.ids, _titles(data)) if data.ids is not None and data.ids.item_ids else None,
    }


def _picture(data: ReportData) -> Markup:
    if data.ids is None or not data.ids.item_ids:
        return Markup()
    from dig.report.code_tree import code_tree_svg

    return Markup(code_tree_svg(data.ids.codes, data.ids.sizes))  # noqa: S704 - numbers alone


def _titles(data: ReportData) -> dict[str, str]:
    if data.catalogue is None:
        return {}
    return dict(zip(data.catalogue["item_id"], data.catalogue["title"].fill_null(""), strict=True))
