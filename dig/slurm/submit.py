"""Hands a job script to ``sbatch`` and tells what became of it."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dig.config import Config, UserError
from dig.config.schema import SlurmConfig
from dig.engine.console import say
from dig.engine.own_files import replace_text
from dig.slurm.job import MARKER, foreign_job

__all__ = [
    "submit",
    "job_name",
    "job_script",
    "log_files",
]


_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")
_OURS = (MARKER, "DIG_LAUNCH", "DIG_LAUNCHER")


def submit(config: Config, arguments: Sequence[str]) -> str:
    """Writes the script, submits it, says where to look, and returns the job's id.

    Raises:
        UserError: there is no ``sbatch``, or it refuses the job.
    """
    script = job_script(config, arguments, Path.cwd())
    folder = Path(config.slurm.logs)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{job_name(config)}-{hashlib.sha256(script.encode()).hexdigest()[:8]}.sbatch"
    replace_text(path, script)
    job = _sbatch(path)
    whole, each = log_files(config, job)
    slurm = config.slurm
    outer = foreign_job()
    if outer:
        say(f"inside of the job {outer}, which is not there for dig, so slurm.nodes={slurm.nodes} submits another one")
    say(f"job {job}: {slurm.nodes} × {slurm.gpus or slurm.tasks} {'GPUs' if slurm.gpus else 'tasks'}, script {path}")
    say(f"logs: {whole} and, a rank each, {each.replace('%t', '0')} …")
    say(f"state: squeue --job={job} · save and requeue: scancel --signal=USR1 {job} · cancel: scancel {job}")
    return job


def _sbatch(path: Path) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            ["sbatch", "--parsable", str(path)],  # noqa: S607
            capture_output=True,
            text=True,
            env=_environment(),
        )
    except FileNotFoundError:
        raise UserError(
            "there is no sbatch here: submit on a login node of the cluster, leave slurm.nodes out to "
            "train on this machine, or add --dry-run to see the script"
        ) from None
    match = re.match(r"\d+", done.stdout.strip())
    if done.returncode or not match:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise UserError(f"sbatch refused {path}: {'; '.join(line.removeprefix('sbatch: error: ') for line in lines)}")
    return match.group()


def _environment() -> dict[str, str]:
    """The environment without an outer job's own variables, which a job submitted within it would take for its own."""
    inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
    if "SLURM_JOB_ID" not in inherited:
        return inherited
    return {name: value for name, value in inherited.items() if not name.startswith("SLURM_") or name in _KEPT}


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
