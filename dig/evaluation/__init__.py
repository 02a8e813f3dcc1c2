"""Evaluation: ranking metrics, the harness that measures every recommender, codebook health.

The names here are loaded when they are first used, so that statistics need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dig.evaluation.harness import Evaluation, evaluate
    from dig.evaluation.rankers import Ranker, Scorer
    from dig.evaluation.ranking import MRR, NDCG, HitRate, ranking_metrics
    from dig.evaluation.slices import slice_metrics

__all__ = ["MRR", "NDCG", "Evaluation", "HitRate", "Ranker", "Scorer", "evaluate", "ranking_metrics", "slice_metrics"]

_HOMES = {
    "Evaluation": "harness",
    "evaluate": "harness",
    "Ranker": "rankers",
    "Scorer": "rankers",
    "MRR": "ranking",
    "NDCG": "ranking",
    "HitRate": "ranking",
    "ranking_metrics": "ranking",
    "slice_metrics": "slices",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"dig.evaluation.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'dig.evaluation' has no attribute {name!r}")
