"""Weights & Biases: what of a run is logged there, online or offline, and as which W&B runs.

Nothing here imports wandb before a W&B run is opened, and nothing here ends an experiment: what fails in W&B is told
in a line, and the experiment goes on.
"""

from dig.tracking.tracking import NOT_TRACKED, StageTracking, Tracking

__all__ = ["NOT_TRACKED", "StageTracking", "Tracking"]
