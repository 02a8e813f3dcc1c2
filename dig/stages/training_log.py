"""What a training says of itself: how often it logs, where its profile lies, and why it ended."""

from __future__ import annotations

import math
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from dig.artifacts import shown_path

__all__ = ["LogOften", "profile_place", "profiler_of", "why_ended"]

_LEAST_LINES = 10
_SECTIONS = {"tokenize": "rqvae", "adapt": "visual.adapt"}
"""Section of the configuration by stage, where it is not called like it."""
_PROFILERS: dict[str, type[Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}
_PROFILE = "profile"


class LogOften(Callback):
    """Logs a training of few steps more often than ``trainer.log_every``, so that it leaves ten lines and not none."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Looks at how many batches there will be."""
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else math.inf
        steps = trainer.num_training_batches * epochs / trainer.accumulate_grad_batches
        if trainer.max_steps > 0:
            a_batch = getattr(pl_module, "updates_per_rollout", 1) * getattr(pl_module, "minibatches", 1)
            steps = min(steps, math.ceil(trainer.max_steps / a_batch))
        if math.isfinite(steps):
            trainer.log_every_n_steps = max(1, min(trainer.log_every_n_steps, int(steps) // _LEAST_LINES))


def profiler_of(kind: str | None, logs: str) -> Profiler | None:
    """Lightning's profiler of a name, which writes beside a stage's logs."""
    return None if kind is None else _PROFILERS[kind](dirpath=logs, filename=_PROFILE)  # type: ignore[call-arg]


def profile_place(logs: str, work: Path) -> str:
    """Where the profile lies once the artifact is sealed, which renames its work folder."""
    return shown_path(work.with_suffix("") / Path(logs).relative_to(work))


def why_ended(stage: str, trainer: lightning.Trainer, monitor: str, max_steps: int | None, patience: int | None) -> str:
    """Why a training ended, with the key that says so."""
    section = _SECTIONS.get(stage, stage)
    if max_steps is not None and trainer.global_step >= max_steps:
        return f"{section}.max_steps={max_steps}"
    stopping = [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]  # type: ignore[attr-defined]
    if patience is not None and any(callback.wait_count >= callback.patience for callback in stopping):
        times = f"{patience} validation{'' if patience == 1 else 's'}"
        return f"{times} without a better {monitor}, {section}.patience={patience}"
    return f"{section}.epochs={trainer.max_epochs}"
