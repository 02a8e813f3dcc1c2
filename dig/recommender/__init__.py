"""The finished recommender: what a run leaves behind, ready to answer."""

from dig.recommender.loading import load_ranker
from dig.recommender.policy import PolicyRanker
from dig.recommender.recommender import Recommender

__all__ = ["PolicyRanker", "Recommender", "load_ranker"]
