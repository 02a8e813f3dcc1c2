"""The recommenders that are measured, a file or a folder each, and what those of somebody else build on.

A file or a folder holds everything of a recommender: settings and :class:`RecommenderSpec` (which the configuration
imports, so nothing heavy stands beside them), model and ranker, LightningModule, training stage and loader. The names
here are loaded when they are first used (``dig.engine.lazy``); docs/recommenders.md shows how to write one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from dig.config.recommenders import RecommenderSpec
    from dig.evaluation.rankers import Ranker, Scorer
    from dig.recommenders.training import ItemTraining, train_on_items

__all__ = ["ItemTraining", "Ranker", "RecommenderSpec", "Scorer", "train_on_items"]

__getattr__ = lazy_names(
    __name__,
    {
        "RecommenderSpec": "dig.config.recommenders",
        "Ranker": "dig.evaluation.rankers",
        "Scorer": "dig.evaluation.rankers",
        "ItemTraining": "training",
        "train_on_items": "training",
    },
)
