"""Imports of libraries that coverage does not look on at: to trace them takes about as long as to do them.

Only what is not ours is imported here, so that no line that is measured goes unseen.
"""

from __future__ import annotations

import importlib
import sys

__all__ = ["import_untraced"]

_LIBRARIES = (
    "altair",
    "jsonschema",
    "lightning.pytorch",
    "omegaconf",
    "open_clip",
    "openai",
    "optuna",
    "pandas",
    "peft",
    "polars",
    "scipy.optimize",
    "sentence_transformers",
    "sklearn.decomposition",
    "sklearn.linear_model",
    "sklearn.metrics",
    "torchmetrics",
    "transformers.models.auto.modeling_auto",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.t5.modeling_t5",
    "wandb.sdk.lib.gitlib",
)


def import_untraced() -> None:
    """Imports the libraries if this process is traced, and lets the tracing continue afterwards."""
    tracer = sys.gettrace()
    if tracer is None:
        return
    sys.settrace(None)
    try:
        for name in _LIBRARIES:
            importlib.import_module(name)
    finally:
        sys.settrace(tracer)
