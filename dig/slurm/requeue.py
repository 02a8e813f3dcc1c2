"""Puts a job back into the queue, unless SLURM is ending it by itself."""

from __future__ import annotations

import re
import subprocess

from dig.slurm.job import Job, command_answer

__all__ = ["requeue"]


def requeue(job: Job) -> str:
    """Asks for the requeue once, and tells in words what becomes of the job.

    A job that SLURM is ending is left alone: after a preemption SLURM requeues it itself, and one that a person
    cancelled must not come back. Its time limit is the exception, since SLURM ends such a job for good.
    """
    facts = dict(re.findall(r"(\w+)=(\S*)", command_answer("scontrol", "show", "job", "--oneliner", job.id)))
    if int(facts.get("Restarts", job.restarts)) > job.restarts:
        return f"job {job.id} goes back into the queue and goes on from there"
    if facts.get("JobState") == "COMPLETING" and facts.get("Reason") != "TimeLimit":
        return f"SLURM ends job {job.id}; it goes on from there when it starts again"
    problem = _scontrol(job.id)
    if problem is None:
        return f"job {job.id} goes back into the queue and goes on from there"
    return f"job {job.id} could not be requeued ({problem}); the same command goes on from there"


def _scontrol(job: str) -> str | None:
    """None when it is done, else why not."""
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=20)  # noqa: S603, S607
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"scontrol: {type(error).__name__}"
    return None if done.returncode == 0 else (done.stderr.strip() or done.stdout.strip()).replace("\n", "; ")
