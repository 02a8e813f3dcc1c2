"""The finished recommender: what a run leaves behind, ready to answer.

The names here are loaded when they are first used, so that a baseline's answer needs no language model's imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from dig.recommender.policy import PolicyRanker
    from dig.recommender.recommender import Recommender, load_ranker
    from dig.recommender.tables import read_ids, read_run_table

__all__ = ["PolicyRanker", "Recommender", "load_ranker", "read_ids", "read_run_table"]

__getattr__ = lazy_names(
    __name__,
    {
        "PolicyRanker": "policy",
        "Recommender": "recommender",
        "load_ranker": "recommender",
        "read_ids": "tables",
        "read_run_table": "tables",
    },
)
