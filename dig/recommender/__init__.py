"""The finished recommender: what a run leaves behind, ready to answer."""

from dig.recommender.loading import load_ranker
from dig.recommender.policy import PolicyRanker
from dig.recommender.recommender import Recommender
from dig.recommender.tables import read_run_table

__all__ = ["PolicyRanker", "Recommender", "load_ranker", "read_run_table"]
