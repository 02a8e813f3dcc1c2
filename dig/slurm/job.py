"""What a process knows of the SLURM job that it is a task of, read from the environment."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "INTERACTIVE",
    "MARKER",
    "SlurmJob",
    "command_answer",
    "current_job",
    "foreign_job",
    "requeue",
]


INTERACTIVE = ("bash", "interactive")
"""Names of jobs that are shells of people: Lightning and dig train in them as if there was no SLURM."""
MARKER = "DIG_JOB"
"""The variable by which a job's script says that the job is there for dig: it holds the job's own number, so that one
which a shell or another job has handed down says nothing."""


@dataclass(frozen=True)
class SlurmJob:
    """A job, seen by one of its tasks.

    Attributes:
        id: as ``scontrol`` and ``scancel`` take it; a task of an array is ``ARRAY_TASK``.
        number: the plain number that ports and file names are made of.
        name: the job's name.
        rank: of this task among all.
        tasks: in all.
        nodes: in all.
        node: name of this task's node.
        node_list: names of all nodes, as SLURM abbreviates them.
        step: whether ``srun`` started this process.
        restarts: how often the job was requeued.
    """

    id: str
    number: int
    name: str
    rank: int
    tasks: int
    nodes: int
    node: str
    node_list: str
    step: bool
    restarts: int

    def node_of(self, rank: int) -> str:
        """Name of the node that a rank belongs to, where tasks are dealt to nodes in blocks; empty if unknown."""
        hosts = command_answer("scontrol", "show", "hostnames", self.node_list).split()
        place = rank * self.nodes // self.tasks
        return hosts[place] if place < len(hosts) else ""


def current_job(environment: Mapping[str, str] = os.environ) -> SlurmJob | None:
    """The job that this process is a task of; None outside of one, and in jobs that are there for something else.

    A job is dig's if its script says so (:data:`MARKER`), or if ``srun`` started this process as one of several tasks.
    A notebook, an editor's tunnel and a person's shell are one task of a job, too, and train as if there was no SLURM.
    """
    if "SLURM_JOB_ID" not in environment or "SLURM_PROCID" not in environment:
        return None
    if environment.get("SLURM_JOB_NAME") in INTERACTIVE:
        return None
    if environment.get(MARKER) != environment["SLURM_JOB_ID"] and not _several_tasks(environment):
        return None
    array = environment.get("SLURM_ARRAY_JOB_ID")
    number = environment["SLURM_JOB_ID"]
    return SlurmJob(
        id=f"{array}_{environment['SLURM_ARRAY_TASK_ID']}" if array else number,
        number=int(number),
        name=environment.get("SLURM_JOB_NAME", ""),
        rank=int(environment["SLURM_PROCID"]),
        tasks=int(environment.get("SLURM_NTASKS", "1")),
        nodes=int(environment.get("SLURM_NNODES", environment.get("SLURM_JOB_NUM_NODES", "1"))),
        node=environment.get("SLURM_TOPOLOGY_ADDR") or environment.get("SLURMD_NODENAME") or socket.gethostname(),
        node_list=environment.get("SLURM_JOB_NODELIST", environment.get("SLURM_NODELIST", "")),
        step="SLURM_STEP_ID" in environment,
        restarts=int(environment.get("SLURM_RESTART_COUNT", "0")),
    )


def foreign_job(environment: Mapping[str, str] = os.environ) -> str:
    """Name and number of the job around this process that is not dig's; empty where there is none."""
    if "SLURM_JOB_ID" not in environment or current_job(environment) is not None:
        return ""
    return f"{environment.get('SLURM_JOB_NAME', '')} {environment['SLURM_JOB_ID']}".strip()


def _several_tasks(environment: Mapping[str, str]) -> bool:
    """Whether ``srun`` started this process as one of several."""
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or "1"
    return "SLURM_STEP_ID" in environment and tasks.isdecimal() and int(tasks) > 1


def command_answer(*command: str, seconds: float = 20) -> str:
    """What a command of SLURM prints; empty when it is not there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


_BACK = "job {id} goes back into the queue and resumes from there"


def requeue(job: SlurmJob, ended: bool) -> str:
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
        return f"SLURM ends job {job.id}; it resumes from there when it starts again"
    preempted = facts.get("PreemptTime", "None") not in ("None", "")
    if ended and job.tasks > 1 and facts.get("JobState") == "RUNNING" and not preempted:
        return f"job {job.id} ends, as a rank was lost or somebody ended it; the same command resumes from there"
    problem = _scontrol(job.id)
    if problem is None:
        return _BACK.format(id=job.id)
    return f"job {job.id} could not be requeued ({problem}); the same command resumes from there"


def _scontrol(job: str) -> str | None:
    """None when it is done, else why not."""
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=20)  # noqa: S603, S607
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"scontrol: {type(error).__name__}"
    return None if done.returncode == 0 else (done.stderr.strip() or done.stdout.strip()).replace("\n", "; ")
