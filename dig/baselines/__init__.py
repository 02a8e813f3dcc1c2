"""Baselines, one file each; all follow the Ranker protocol of ``dig.evaluation``.

The names here are loaded when they are first used (``dig.engine.lazy``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from dig.baselines.eimf import EIMF
    from dig.baselines.item_knn import ItemKNN
    from dig.baselines.popularity import Popularity
    from dig.baselines.sasrec import SASRec
    from dig.baselines.tiger import PAD, build_t5, sid_vocabulary

__all__ = ["EIMF", "ItemKNN", "PAD", "Popularity", "SASRec", "build_t5", "sid_vocabulary"]

__getattr__ = lazy_names(
    __name__,
    {
        "EIMF": "eimf",
        "ItemKNN": "item_knn",
        "Popularity": "popularity",
        "SASRec": "sasrec",
        "PAD": "tiger",
        "build_t5": "tiger",
        "sid_vocabulary": "tiger",
    },
)
