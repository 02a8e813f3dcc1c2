"""Baselines, one file each; all follow the Ranker protocol of ``dig.evaluation``."""
