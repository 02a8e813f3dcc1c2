"""What a training says of itself: how often it logs, where its profile lies, and why it ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dig.engine.artifacts import shown_path
from dig.engine.lazy import lightning

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.profilers import Profiler

__all__ = ["profile_place", "profiler_of", "why_ended"]

_SECTIONS = {"tokenize": "rqvae", "adapt": "visual.adapt"}
"""Section of the configuration by stage, where it is not called like it."""
_PROFILERS = {"simple": "SimpleProfiler", "advanced": "AdvancedProfiler", "pytorch": "PyTorchProfiler"}
"""Lightning's class by the name that the configuration has for it."""
_PROFILE = "profile"


def profiler_of(kind: str | None, logs: str) -> Profiler | None:
    """Lightning's profiler of a name, which writes beside a stage's logs."""
    if kind is None:
        return None
    profiler: Profiler = getattr(lightning.pytorch.profilers, _PROFILERS[kind])(dirpath=logs, filename=_PROFILE)
    return profiler


def profile_place(logs: str, work: Path) -> str:
    """Where the profile lies once the artifact is sealed, which renames its work folder."""
    return shown_path(work.with_suffix("") / Path(logs).relative_to(work))


def why_ended(stage: str, trainer: lightning.Trainer, monitor: str, max_steps: int | None, patience: int | None) -> str:
    """Why a training ended, with the key that says so."""
    section = _SECTIONS.get(stage, stage)
    if max_steps is not None and trainer.global_step >= max_steps:
        return f"{section}.max_steps={max_steps}"
    watching: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # a connector of Lightning's sets it
    stopping = [callback for callback in watching if isinstance(callback, lightning.pytorch.callbacks.EarlyStopping)]
    if patience is not None and any(callback.wait_count >= callback.patience for callback in stopping):
        times = f"{patience} validation{'' if patience == 1 else 's'}"
        return f"{times} without a better {monitor}, {section}.patience={patience}"
    return f"{section}.epochs={trainer.max_epochs}"
