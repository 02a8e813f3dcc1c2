"""Puts a job back into the queue, unless it is SLURM or a lost rank that ends it."""

from __future__ import annotations

import re
import subprocess

from dig.slurm.job import Job, command_answer

__all__ = ["requeue"]

_BACK = "job {id} goes back into the queue and goes on from there"


def requeue(job: Job, ended: bool) -> str:
    """Asks for the requeue once, and tells in words what becomes of the job.

    A job that SLURM is ending is left alone: after a preemption SLURM requeues it itself, and one that a person
    cancelled must not come back. Its time limit is the exception, since SLURM ends such a job for good.

    Args:
        job: seen by this rank.
        ended: it was told to end and could not save on all ranks. ``srun`` does that when a rank has died; a job that
            came back by itself after that would die again and again.
    """
    facts = dict(re.findall(r"(\w+)=(\S*)", command_answer("scontrol", "show", "job", "--oneliner", job.id)))
    if int(facts.get("Restarts", job.restarts)) > job.restarts:
        return _BACK.format(id=job.id)
    if facts.get("JobState") == "COMPLETING" and facts.get("Reason") != "TimeLimit":
        return f"SLURM ends job {job.id}; it goes on from there when it starts again"
    preempted = facts.get("PreemptTime", "None") not in ("None", "")
    if ended and job.tasks > 1 and facts.get("JobState") == "RUNNING" and not preempted:
        return f"job {job.id} ends, as a rank was lost or somebody ended it; the same command goes on from there"
    problem = _scontrol(job.id)
    if problem is None:
        return _BACK.format(id=job.id)
    return f"job {job.id} could not be requeued ({problem}); the same command goes on from there"


def _scontrol(job: str) -> str | None:
    """None when it is done, else why not."""
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=20)  # noqa: S603, S607
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"scontrol: {type(error).__name__}"
    return None if done.returncode == 0 else (done.stderr.strip() or done.stdout.strip()).replace("\n", "; ")
