"""Hands a job script to ``sbatch`` and tells what became of it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dig.config import Config, UserError
from dig.engine.console import say
from dig.engine.own_files import replace_text
from dig.slurm.job import MARKER, foreign_job
from dig.slurm.script import job_name, job_script, log_files

__all__ = ["submit"]

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
    found = re.match(r"\d+", done.stdout.strip())
    if done.returncode or not found:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise UserError(f"sbatch refused {path}: {'; '.join(line.removeprefix('sbatch: error: ') for line in lines)}")
    return found.group()


def _environment() -> dict[str, str]:
    """The environment without an outer job's own variables, which a job submitted within it would take for its own."""
    inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
    if "SLURM_JOB_ID" not in inherited:
        return inherited
    return {name: value for name, value in inherited.items() if not name.startswith("SLURM_") or name in _KEPT}
