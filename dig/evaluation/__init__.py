"""Evaluation: ranking metrics, the harness that measures every recommender, codebook health.

The names here are loaded when they are first used, so that statistics need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from dig.evaluation.harness import Evaluation, Harness, NotANumberError, Protocol, evaluate, other_protocol
    from dig.evaluation.measures import CatalogueFacts, beyond_accuracy
    from dig.evaluation.memorization import beneficiaries, one_hop_candidates, successor_counts
    from dig.evaluation.paired import accuracy_gains, slice_metrics
    from dig.evaluation.rankers import Ranker, Scorer
    from dig.evaluation.ranking import MRR, NDCG, HitRate, ranking_metrics, target_positions

__all__ = [
    "CatalogueFacts",
    "Evaluation",
    "Harness",
    "HitRate",
    "MRR",
    "NDCG",
    "NotANumberError",
    "Protocol",
    "Ranker",
    "Scorer",
    "accuracy_gains",
    "beneficiaries",
    "beyond_accuracy",
    "evaluate",
    "one_hop_candidates",
    "other_protocol",
    "ranking_metrics",
    "slice_metrics",
    "successor_counts",
    "target_positions",
]

__getattr__ = lazy_names(
    __name__,
    {
        "CatalogueFacts": "measures",
        "Evaluation": "harness",
        "Harness": "harness",
        "NotANumberError": "harness",
        "Protocol": "harness",
        "evaluate": "harness",
        "other_protocol": "harness",
        "beyond_accuracy": "measures",
        "beneficiaries": "memorization",
        "one_hop_candidates": "memorization",
        "successor_counts": "memorization",
        "Ranker": "rankers",
        "Scorer": "rankers",
        "HitRate": "ranking",
        "MRR": "ranking",
        "NDCG": "ranking",
        "ranking_metrics": "ranking",
        "target_positions": "ranking",
        "accuracy_gains": "paired",
        "slice_metrics": "paired",
    },
)
