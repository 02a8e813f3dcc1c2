"""Lightning callbacks: codebook health, exact resume, rollout diagnostics, throughput.

The names here are loaded when they are first used (``dig.engine.lazy``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from callbacks.guards import CodebookHealth, FiniteGuard
    from callbacks.monitoring import (
        Bar,
        LogOften,
        ProgressLines,
        RolloutHealth,
        RolloutSamples,
        Throughput,
        VectorWriter,
        progress_bar,
    )
    from callbacks.resume import (
        AtomicCheckpointIO,
        ElasticResume,
        Preemption,
        ResumeCheckpoint,
        StepSeed,
        checkpoints_of,
        configuration_in,
        damage,
        differing_key,
        step_in,
    )

__all__ = [
    "AtomicCheckpointIO",
    "Bar",
    "CodebookHealth",
    "FiniteGuard",
    "LogOften",
    "ElasticResume",
    "Preemption",
    "ProgressLines",
    "ResumeCheckpoint",
    "RolloutHealth",
    "RolloutSamples",
    "StepSeed",
    "Throughput",
    "VectorWriter",
    "checkpoints_of",
    "configuration_in",
    "damage",
    "differing_key",
    "progress_bar",
    "step_in",
]

__getattr__ = lazy_names(
    __name__,
    {
        "CodebookHealth": "guards",
        "FiniteGuard": "guards",
        "ElasticResume": "resume",
        "Preemption": "resume",
        "Bar": "monitoring",
        "ProgressLines": "monitoring",
        "progress_bar": "monitoring",
        "LogOften": "monitoring",
        "AtomicCheckpointIO": "resume",
        "ResumeCheckpoint": "resume",
        "StepSeed": "resume",
        "checkpoints_of": "resume",
        "configuration_in": "resume",
        "damage": "resume",
        "differing_key": "resume",
        "step_in": "resume",
        "RolloutHealth": "monitoring",
        "RolloutSamples": "monitoring",
        "Throughput": "monitoring",
        "VectorWriter": "monitoring",
    },
)
