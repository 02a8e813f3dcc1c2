"""Items that belong together: by behaviour in the training part, and by meaning (IIRG, arXiv 2606.17276)."""

from datamodules.relations.neighbours import (
    WINDOW,
    collaborative_neighbours,
    fill_from_similar,
    other_items_rows,
    random_neighbours,
    relation_tables,
)
from datamodules.relations.similarity import (
    EXACT_ITEMS,
    KEPT,
    nearest_in_cells,
    search_recall,
    semantic_neighbours,
)

__all__ = [
    "EXACT_ITEMS",
    "KEPT",
    "WINDOW",
    "collaborative_neighbours",
    "fill_from_similar",
    "nearest_in_cells",
    "other_items_rows",
    "random_neighbours",
    "relation_tables",
    "search_recall",
    "semantic_neighbours",
]
