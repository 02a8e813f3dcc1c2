"""What training runs on, and what it logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dig.config.sections.checks import check, check_choice, check_positive

__all__ = ["LoggingConfig", "TrainerConfig", "WandbConfig"]

_NOT_IN_NAMES = "/\\#?%:"
"""What W&B refuses in a project's name; project and entity are parts of an address."""
_LONGEST_NAME = 128


@dataclass
class TrainerConfig:
    """Lightning's Trainer, shared by the training stages."""

    accelerator: str = "auto"
    """Lightning's accelerator: auto, cpu, gpu, mps."""
    devices: Any = 1
    """Devices a node: a number, a list of indices, or auto."""
    num_nodes: int = 1
    """Nodes."""
    strategy: str = "auto"
    """How ranks share training: auto (one device, or ddp), ddp (a whole model each), fsdp (each holds a part of the
    weights; FSDP2), or any other of Lightning's names."""
    timeout: float = 1800.0
    """Seconds that ranks wait for each other, at a start and in a collective call, before they give up."""
    precision: str = "32-true"
    """Lightning's precision: 32-true, bf16-mixed, 16-mixed and so on."""
    accumulate: int = 1
    """Batches whose gradients are summed before an optimiser step."""
    checkpoint_every: int = 50
    """Optimiser steps between two checkpoints to resume from."""
    checkpoint_share: float = 0.03
    """Share of a training's time that such checkpoints may take; where they would take more, they come less often."""
    keep_checkpoints: int = 2
    """How many of the latest checkpoints to resume from are kept, beside the best weights; an unreadable one falls back
    to the one before."""
    log_every: int = 10
    """Optimiser steps between two log lines."""
    workers: int = 0
    """Worker processes of a data loader."""

    def __post_init__(self) -> None:
        check_positive("trainer", self, "num_nodes", "accumulate", "checkpoint_every", "keep_checkpoints", "log_every",
                       "timeout")  # fmt: skip
        check(
            not (self.precision.startswith("16") and self.accelerator == "cpu"),
            f"trainer.precision={self.precision} needs a GPU; use bf16-mixed or 32-true with trainer.accelerator=cpu",
        )
        check(0 < self.checkpoint_share <= 1, f"trainer.checkpoint_share must lie above 0 and at most at 1, it is "
              f"{self.checkpoint_share}")  # fmt: skip
        check(self.workers >= 0, f"trainer.workers must not be negative, it is {self.workers}")


@dataclass
class WandbConfig:
    """Weights & Biases."""

    mode: str = "disabled"
    """`disabled`, `offline` (no account needed) or `online` (the key comes from WANDB_API_KEY)."""
    project: str = "dig"
    """W&B project."""
    entity: str | None = None
    """W&B team or user."""
    group: str | None = None
    """W&B group; unset groups the stages of a run together."""
    tags: list[str] = field(default_factory=list)
    """Tags of the W&B runs."""
    notes: str | None = None
    """A sentence about the experiment, shown with its W&B runs."""
    artifacts: bool = True
    """Send Semantic IDs, interests, results and the page as files, with what each was made from."""
    log_model: bool = False
    """Send the trained models as W&B artifacts, too."""
    samples: int = 50
    """Tests whose recommendations are told in words in a table; 0 for none."""
    machine: bool = True
    """Send what W&B finds out about the machine and the process: host, program, packages, git commit, load."""
    finish_seconds: int = 300
    """Seconds that the end of a W&B run waits for uploads; what is not sent by then stays on disk for `wandb sync`."""

    def __post_init__(self) -> None:
        check_choice("logging.wandb.mode", self.mode, ("disabled", "offline", "online"))
        check(self.samples >= 0, f"logging.wandb.samples must not be negative, it is {self.samples}")
        check_positive("logging.wandb", self, "finish_seconds")
        self._check_name("project", self.project)
        self._check_name("entity", self.entity)
        self._check_length("group", self.group)
        for tag in self.tags:
            check(1 <= len(tag) <= 64, f"logging.wandb.tags: W&B takes tags of 1 to 64 characters, not {tag!r}")

    def _check_name(self, key: str, name: str | None) -> None:
        """W&B would refuse such a name at the start of every stage, and keep no record."""
        if name is None:
            return
        bad = sorted({char for char in name if char in _NOT_IN_NAMES or not char.isprintable()})
        hint = ""
        if key == "project" and name.count("/") == 1 and all(name.split("/")):
            entity, project = name.split("/")
            hint = f"; for a team's project write logging.wandb.entity={entity} logging.wandb.project={project}"
        check(not bad, f"logging.wandb.{key}={name!r}: W&B takes none of {' '.join(_NOT_IN_NAMES)} in it, and there is "
              f"{' '.join(map(repr, bad))}{hint}")  # fmt: skip
        self._check_length(key, name)

    def _check_length(self, key: str, name: str | None) -> None:
        check(name is None or (bool(name.strip()) and len(name) <= _LONGEST_NAME), f"logging.wandb.{key}: W&B takes "
              f"names of 1 to {_LONGEST_NAME} characters, this one has {len((name or '').strip())}")  # fmt: skip


@dataclass
class LoggingConfig:
    """What is logged where; CSV logs are always written."""

    wandb: WandbConfig = field(default_factory=WandbConfig)
    """Weights & Biases."""
    progress: bool = True
    """Show progress bars."""
