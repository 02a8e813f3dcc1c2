"""Evaluation: ranking metrics, the harness that measures every recommender, codebook health."""

from dig.evaluation.harness import Evaluation, Ranker, evaluate
from dig.evaluation.ranking import NDCG, HitRate, ranking_metrics
from dig.evaluation.slices import slice_metrics

__all__ = ["NDCG", "Evaluation", "HitRate", "Ranker", "evaluate", "ranking_metrics", "slice_metrics"]
