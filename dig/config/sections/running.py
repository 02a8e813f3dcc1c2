"""Settings of how an experiment runs and is measured: trainer, logging, evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from dig.config.sections.checks import (
    Nodes,
    NonNegativeInt,
    PositiveFraction,
    PositiveInt,
    Seconds,
    Size,
    Workers,
    check,
    check_choice,
    check_values,
)

__all__ = [
    "LoggingConfig",
    "TrainerConfig",
    "WandbConfig",
    "EvaluationConfig",
]


_NOT_IN_NAMES = "/\\#?%:"
"""What W&B refuses in a project's name; project and entity are parts of an address."""
_LONGEST_NAME = 128
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true", "32", "bf16", "16", "64")
"""Lightning's, the short names included."""
_MOST_DEVICES = 1024


@dataclass
class TrainerConfig:
    """Lightning's Trainer, shared by the training stages."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto"
    """Lightning's accelerator: auto, cpu, gpu (or cuda), mps, tpu."""
    devices: Any = 1
    """Devices per node: a number, a list of indices of GPUs, or auto: every GPU, and one process on the CPU."""
    num_nodes: Nodes = 1
    """Nodes."""
    strategy: str = "auto"
    """How ranks share training: auto (one device, or ddp), ddp (a whole model each), fsdp (each holds a part of the
    weights; FSDP2), or any other of Lightning's names."""
    timeout: Seconds = 1800.0
    """Seconds that ranks wait for each other, at a start and in a collective call, before they give up."""
    precision: str = "32-true"
    """Lightning's precision: 32-true, bf16-mixed, 16-mixed and so on."""
    accumulate_grad_batches: PositiveInt = 1
    """Batches whose gradients are summed before an optimiser step."""
    checkpoint_every: PositiveInt = 50
    """Optimiser steps between two checkpoints to resume from."""
    checkpoint_share: PositiveFraction = 0.03
    """Share of a training's time that such checkpoints may take; where they would take more, they come less often."""
    keep_checkpoints: PositiveInt = 2
    """How many of the latest checkpoints to resume from are kept, beside the best weights; an unreadable one falls back
    to the one before."""
    log_every_n_steps: PositiveInt = 10
    """Optimiser steps between two log lines; fewer in a short training, so that it leaves about ten."""
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    """Where a training's time goes, by Lightning's profiler: simple (a table of hooks), advanced (Python's functions)
    or pytorch (operators, and a trace for a browser), in the stage's folder of logs; unset measures nothing."""
    num_workers: Workers = 0
    """Worker processes of a data loader."""

    def __post_init__(self) -> None:
        check_values("trainer", self)
        self.devices = _devices(self.devices)
        check_choice("trainer.precision", self.precision, PRECISIONS)
        check(
            not (self.precision.startswith("16") and self.accelerator == "cpu"),
            f"trainer.precision={self.precision} needs a GPU; use bf16-mixed or 32-true with trainer.accelerator=cpu",
        )


def _devices(asked: Any) -> Any:
    """What Lightning means by it, in one form: a number, a list of indices, or `auto` (-1 is all, too)."""
    if asked in ("auto", "-1", -1):
        return "auto"
    listed = isinstance(asked, list | tuple) or (isinstance(asked, str) and "," in asked)
    parts = asked.split(",") if isinstance(asked, str) else asked if listed else [asked]
    numbers = [_number(part) for part in parts if str(part).strip()]
    least = 0 if listed else 1
    check(
        bool(numbers) and min(numbers) >= least and len(set(numbers)) == len(numbers),
        f"trainer.devices={asked!r} is neither a number of devices above 0, nor a list of different indices of GPUs "
        "such as [0,1], nor auto",
    )
    check(
        max(numbers) + 1 - least <= _MOST_DEVICES,
        f"trainer.devices={asked} is more than the {_MOST_DEVICES:,} devices that a node can have",
    )
    return numbers if listed else numbers[0]


def _number(value: Any) -> int:
    """A whole number, as such or in digits; -1 stands for anything else."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


@dataclass
class WandbConfig:
    """Weights & Biases."""

    mode: Literal["disabled", "offline", "online"] = "disabled"
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
    samples: NonNegativeInt = 50
    """Tests whose recommendations are logged as a table of titles; 0 for none."""
    machine: bool = True
    """Send what W&B finds out about the machine and the process: host, program, packages, git commit, load."""
    finish_seconds: PositiveInt = 300
    """Seconds that the end of a W&B run waits for uploads; what is not sent by then stays on disk for `wandb sync`."""

    def __post_init__(self) -> None:
        check_values("logging.wandb", self)
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
        check(
            not bad,
            f"logging.wandb.{key}={name!r}: W&B takes none of {' '.join(_NOT_IN_NAMES)} in it, and there is "
            f"{' '.join(map(repr, bad))}{hint}",
        )
        self._check_length(key, name)

    def _check_length(self, key: str, name: str | None) -> None:
        check(
            name is None or (bool(name.strip()) and len(name) <= _LONGEST_NAME),
            f"logging.wandb.{key}: W&B takes "
            f"names of 1 to {_LONGEST_NAME} characters, this one has {len((name or '').strip())}",
        )


@dataclass
class LoggingConfig:
    """What is logged where; CSV logs are always written."""

    wandb: WandbConfig = field(default_factory=WandbConfig)
    """Weights & Biases."""
    progress: bool = True
    """Show progress bars."""


@dataclass
class EvaluationConfig:
    """The test: full ranking by constrained beam search."""

    ks: list[Size] = field(default_factory=lambda: [5, 10])
    """Cut-offs K of HR@K and NDCG@K."""
    num_beams: Size = 20
    """Beams, which is also the length of the stored ranking (20 in the paper)."""
    batch_size: Size = 256
    """Users per batch."""
    valid_users: PositiveInt | None = 1000
    """Validate on a fixed random subset of this many held-out items (leave-one-out has one per user), also to choose
    checkpoints; unset takes all."""
    valid_beams: Size = 20
    """Beams of the validation that chooses checkpoints."""
    max_users: PositiveInt | None = None
    """Evaluate a fixed random subset of this many tests (leave-one-out has one per user); unset takes all."""
    mask_history: bool = False
    """Leave items of the history out of the ranking; beam search bans them, so that beams are not spent on them."""

    def __post_init__(self) -> None:
        check_values("evaluation", self)
        check(bool(self.ks) and min(self.ks) > 0, f"evaluation.ks must be numbers above 0, it is {self.ks}")
        check(
            not self.ks or max(self.ks) <= self.num_beams,
            f"evaluation.ks asks for {max(self.ks)} items, evaluation.num_beams={self.num_beams} ranks fewer",
        )
