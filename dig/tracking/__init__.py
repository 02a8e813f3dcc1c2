"""Weights & Biases: what of a run is logged there, online or offline, and as which W&B runs.

Nothing here imports wandb before a W&B run is opened, and nothing here ends an experiment: what fails in W&B is told
in a line, and the experiment continues.
"""

from typing import TYPE_CHECKING

from dig.engine.lazy import lazy_names
from dig.tracking.tracking import NOT_TRACKED, StageTracking, Tracking

if TYPE_CHECKING:
    from dig.tracking.logger import samples_a_rank

__all__ = ["NOT_TRACKED", "StageTracking", "Tracking", "samples_a_rank"]

__getattr__ = lazy_names(__name__, {"samples_a_rank": "logger"})  # which is built on lightning
