"""Items that belong together: by behaviour in the training part, and by meaning (IIRG, arXiv 2606.17276)."""

from datamodules.relations.control import other_items_rows, random_neighbours
from datamodules.relations.cooccurrence import KEPT, WINDOW, collaborative_neighbours
from datamodules.relations.filling import fill_from_similar
from datamodules.relations.similarity import (
    EXACT_ITEMS,
    nearest_in_cells,
    search_recall,
    semantic_neighbours,
)
from datamodules.relations.tables import relation_tables

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
