"""A job on a SLURM cluster: what it asks for, how it is told to stop, where it logs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from dig.config.sections.checks import Bounds, Nodes, Wait, check, check_folder_name, check_values
from dig.engine.shell_lines import line_secret

__all__ = ["SlurmConfig", "seconds_of"]

_TIME = re.compile(r"(?:(\d+)-)?(\d{1,2})(?::(\d{2}))?(?::(\d{2}))?")
_MEMORY = re.compile(r"\d+[KMGT]?")
_LONGEST_LINE = 10_000
_INTERACTIVE = ("bash", "interactive")  # Lightning takes jobs of these names for a shell


@dataclass
class SlurmConfig:
    """A job on a SLURM cluster; nothing of it changes a result."""

    nodes: Nodes | None = None
    """Nodes; where it is set, `python -m dig.train` submits a job and does not train here."""
    gpus: Annotated[int, Bounds(0, 1024)] = 0
    """GPUs per node, with a task each; 0 runs tasks on CPUs."""
    tasks: Annotated[int, Bounds(0, 1024, above=True)] = 1
    """Tasks per node where slurm.gpus=0."""
    cpus_per_task: Annotated[int, Bounds(0, 4096, above=True)] = 4
    """Processor cores per task."""
    mem: str | None = None
    """Memory per node, such as 64G; unset leaves it to the site."""
    time: str | None = None
    """Time limit, HH:MM:SS or D-HH:MM:SS; unset leaves it to the site."""
    partition: str | None = None
    """Partition."""
    account: str | None = None
    """Account that pays."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that nodes must have, such as a100."""
    gpu_type: str | None = None
    """Type of GPU, such as a100."""
    gpu_option: Literal["gpus-per-node", "gres"] = "gpus-per-node"
    """How the site wants GPUs to be asked for: `gpus-per-node` or `gres`."""
    job_name: str | None = None
    """Name of the job; unset takes dig-EXPERIMENT."""
    signal: Annotated[int, Bounds(0, 65_535)] = 120
    """Seconds before the time limit at which the job is told to save and to go back into the queue."""
    grace: Wait = 25
    """Seconds after a signal in which a training batch must end to be saved; later the last checkpoint is used."""
    requeue: bool = True
    """Put the job back into the queue after a signal; false ends it."""
    start_timeout: Wait = 300
    """Seconds within which all tasks of the job must have started."""
    shared_timeout: Wait = 60
    """Seconds within which every node must see a file that rank 0 writes into the run's folder and DIG_HOME."""
    modules: list[str] = field(default_factory=list)
    """Modules to load, such as cuda/12.4."""
    setup: list[str] = field(default_factory=list)
    """Lines of shell to run before the tasks start, such as `export NCCL_SOCKET_IFNAME=ib0`."""
    options: list[str] = field(default_factory=list)
    """Further options of sbatch, such as --mail-type=END."""
    srun_options: list[str] = field(default_factory=list)
    """Further options of srun, such as --container-image=IMAGE."""
    export: str = "ALL"
    """Which environment variables the job is given by name: ALL, NONE or a list; values never enter the script."""
    python: str | None = None
    """Python of the nodes; unset takes the one that submits."""
    logs: str = "runs/slurm"
    """Folder of job scripts and logs, seen by all nodes."""

    def __post_init__(self) -> None:
        check_values("slurm", self)
        check(
            not self.gpus or self.tasks == 1,
            f"slurm.tasks={self.tasks} cannot be joined with slurm.gpus={self.gpus}: there is one task per GPU",
        )
        check(
            self.mem is None or bool(_MEMORY.fullmatch(self.mem)),
            f"slurm.mem={self.mem} is not a size; write a number with K, M, G or T, such as 64G",
        )
        check_folder_name("slurm.job_name", self.job_name)
        check(
            self.job_name not in _INTERACTIVE,
            f"slurm.job_name={self.job_name} would be taken for an interactive shell; choose another name",
        )
        self._check_time()
        self._check_lines()

    def _check_time(self) -> None:
        if self.time is None:
            return
        check(
            ":" in self.time or "-" in self.time,
            f"slurm.time={self.time} is a bare number; write HH:MM:SS or D-HH:MM:SS (in a YAML file in quotes, since "
            "YAML takes 10:00:00 for a number)",
        )
        seconds = seconds_of(self.time)
        check(seconds > 0, f"slurm.time={self.time} is not a time; write HH:MM:SS or D-HH:MM:SS")
        check(
            seconds > self.signal,
            f"slurm.signal={self.signal} s before the limit is before the start: slurm.time={self.time} is {seconds} s",
        )

    def _check_lines(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    check("\n" not in text, f"slurm.{entry.name} must be one line: {text[:200]!r}")
                    check(
                        len(text) <= _LONGEST_LINE,
                        f"slurm.{entry.name}: a line has {len(text):,} characters, "
                        f"{_LONGEST_LINE:,} is the most; put it into a script of its own",
                    )
        for line in (*self.setup, *self.options, *self.srun_options):
            name = line_secret(line)
            check(
                name is None,
                f"slurm: {name} looks like a secret, which a script must not hold; export it before you submit, and "
                "the job is given it by name",
            )
        check(
            "=" not in self.export,
            "slurm.export takes names of environment variables, not their values: a script "
            "must not hold them; export them before you submit",
        )
        for name in ("options", "srun_options"):
            for option in getattr(self, name):
                check(option.startswith("-"), f"slurm.{name}: {option} is not an option; write it as --name=value")


def seconds_of(time: str) -> int:
    """Seconds of a time as SLURM writes it: MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS; 0 if it is none."""
    match = _TIME.fullmatch(time)
    if not match:
        return 0
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is None and len(numbers) < 3:
        numbers = [0] * (3 - len(numbers)) + numbers
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
