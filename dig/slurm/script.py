"""The job script, as ``scripts/slurm.sbatch`` is written by hand."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from dig.config import Config
from dig.config.schema import SlurmConfig
from dig.slurm.job import MARKER

__all__ = ["job_name", "job_script", "log_files"]


def job_name(config: Config) -> str:
    """The job's name: ``slurm.job_name``, or ``dig-EXPERIMENT``."""
    return config.slurm.job_name or f"dig-{config.experiment}"


def log_files(config: Config, job: str) -> tuple[str, str]:
    """The log of a job's script, and those of its tasks; ``%t`` stands for the rank."""
    start = f"{config.slurm.logs}/{job_name(config)}-{job}"
    return f"{start}.log", f"{start}-%t.log"


def job_script(config: Config, arguments: Sequence[str], folder: Path) -> str:
    """The script that trains with the given arguments on the nodes that ``slurm.*`` asks for.

    Args:
        config: the experiment.
        arguments: those of ``python -m dig.train``, quoted here.
        folder: where it was submitted, and where its tasks run.
    """
    slurm = config.slurm
    command = [slurm.python or sys.executable, "-m", "dig.train", *arguments]
    lines = [
        "#!/bin/bash",
        "# written by python -m dig.train; the same command writes it again",
        *(f"#SBATCH {option}" for option in _options(config, folder)),
        "",
        "set -eo pipefail",
        *(f"module load {shlex.quote(module)}" for module in slurm.modules),
        *slurm.setup,
        f'export {MARKER}="$SLURM_JOB_ID"  # this job is there for dig, and no notebook or shell',
        "export PYTHONUNBUFFERED=1  # lines reach the log as they are written",
        'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"  # srun does not take it from sbatch by itself',
        'export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SRUN_CPUS_PER_TASK}"  # tasks do not fight for cores',
        f"mkdir -p {shlex.quote(slurm.logs)}",
        "",
        "# One rank lost ends all; each rank has a log of its own.",
        "srun --kill-on-bad-exit=1 --export=ALL --open-mode=append "
        + " ".join([f"--output={_quoted(log_files(config, '%j')[1])}", *map(_quoted, slurm.srun_options)])
        + f" \\\n  {shlex.join(command)}",
        "",
    ]
    return "\n".join(lines)


def _options(config: Config, folder: Path) -> list[str]:
    slurm = config.slurm
    asked: list[tuple[str, object]] = [
        ("job-name", job_name(config)),
        ("nodes", slurm.nodes),
        ("ntasks-per-node", slurm.gpus or slurm.tasks),
        *_gpus(slurm),
        ("cpus-per-task", slurm.cpus_per_task),
        ("mem", slurm.mem),
        ("time", slurm.time),
        ("partition", slurm.partition),
        ("account", slurm.account),
        ("qos", slurm.qos),
        ("constraint", slurm.constraint),
        ("signal", f"USR1@{slurm.signal}" if slurm.signal else None),
        ("open-mode", "append"),
        ("chdir", folder),
        ("output", log_files(config, "%j")[0]),
        ("export", slurm.export),
    ]
    options = [f"--{name}={_quoted(str(value))}" for name, value in asked if value is not None]
    options.append("--requeue" if slurm.requeue else "--no-requeue")
    return [*options, *map(_quoted, slurm.options)]


def _gpus(slurm: SlurmConfig) -> list[tuple[str, object]]:
    if not slurm.gpus:
        return []
    kind = f"{slurm.gpu_type}:" if slurm.gpu_type else ""
    return [
        ("gres", f"gpu:{kind}{slurm.gpus}") if slurm.gpu_option == "gres" else ("gpus-per-node", f"{kind}{slurm.gpus}")
    ]


def _quoted(text: str) -> str:
    """Quoted for the shell, and for the lines that sbatch reads, which knows the same quotes; ``%`` stays readable."""
    return text if all(char.isalnum() or char in "%@=:,./_-+" for char in text) else shlex.quote(text)
