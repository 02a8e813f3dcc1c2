"""From ``slurm.nodes`` and ``slurm.gpus`` to Lightning's devices, and whether the job that runs is the one meant."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dig.config import Config, UserError
from dig.slurm.job import INTERACTIVE, current_job

__all__ = ["place", "to_submit"]

_LAUNCHERS = ("RANK", "NODE_RANK", "GROUP_RANK")
"""Set where something else than SLURM starts the processes of several nodes, torchrun for example."""


def to_submit(config: Config, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a job is to be submitted: ``slurm.nodes`` is set and this process is no task of a job."""
    return config.slurm.nodes is not None and not _inside(environment)


def place(config: Config, environment: Mapping[str, str] = os.environ) -> None:
    """Sets ``trainer.num_nodes`` and ``trainer.devices`` by ``slurm.*``, and compares them with the job.

    Inside a job ``slurm.nodes`` is cleared, so that the configuration that a run leaves trains where it is given again
    and does not submit.

    Raises:
        UserError: with exit code 2, where two of them contradict each other.
    """
    slurm, trainer = config.slurm, config.trainer
    if slurm.nodes is not None:
        devices = slurm.gpus or slurm.tasks
        key = "gpus" if slurm.gpus else "tasks"
        if trainer.num_nodes not in (1, slurm.nodes):
            raise _contradiction("trainer.num_nodes", trainer.num_nodes, "slurm.nodes", slurm.nodes)
        if trainer.devices not in (1, "auto", devices):
            raise _contradiction("trainer.devices", trainer.devices, f"slurm.{key}", devices)
        trainer.num_nodes, trainer.devices = slurm.nodes, devices
        if not slurm.gpus and trainer.accelerator == "auto":
            trainer.accelerator = "cpu"
    if _inside(environment):
        slurm.nodes = None
        _compare(config, environment)
    elif slurm.nodes is None and trainer.num_nodes > 1 and not any(name in environment for name in _LAUNCHERS):
        raise UserError(f"trainer.num_nodes={trainer.num_nodes} needs somebody who starts the tasks on the nodes; "
                        f"slurm.nodes={trainer.num_nodes} submits a job to SLURM that does", exit_code=2)  # fmt: skip


def _contradiction(key: str, value: object, wanted_key: str, wanted: object) -> UserError:
    return UserError(f"{key}={value} contradicts {wanted_key}={wanted}; leave {key} out, it follows", exit_code=2)


def _inside(environment: Mapping[str, str]) -> bool:
    """Whether ``srun`` started this process, or a job's script did."""
    return current_job(environment) is not None or _mistaken_for_a_shell(environment)


def _mistaken_for_a_shell(environment: Mapping[str, str]) -> bool:
    """Several tasks that ``srun`` started in a job that is called like a person's shell."""
    named = environment.get("SLURM_JOB_NAME") in INTERACTIVE
    several = int(environment.get("SLURM_STEP_NUM_TASKS") or 1) > 1
    return named and several and "SLURM_STEP_ID" in environment


def _compare(config: Config, environment: Mapping[str, str]) -> None:
    """The job's tasks against the configuration's devices."""
    if _mistaken_for_a_shell(environment):
        name = environment["SLURM_JOB_NAME"]
        raise UserError(f"the job is called {name!r}, which stands for a person's shell, so each task would train "
                        "alone; name it: srun --job-name=dig …, or export SLURM_JOB_NAME=dig", exit_code=2)  # fmt: skip
    job, trainer = current_job(environment), config.trainer
    if job is None:
        raise AssertionError("asked outside of a job")
    if job.tasks > 1 and not job.step:
        raise UserError(f"SLURM gave this job {job.tasks} tasks, but its script starts one process; put srun before "
                        "python, as scripts/slurm.sbatch does", exit_code=2)  # fmt: skip
    devices = len(trainer.devices) if isinstance(trainer.devices, list) else trainer.devices
    if not str(devices).isdecimal() or int(devices) < 1:  # auto, -1: as many as there are
        return
    if (job.tasks, job.nodes) != (trainer.num_nodes * int(devices), trainer.num_nodes):
        raise UserError(
            f"SLURM started {_count(job.tasks, 'task')} on {_count(job.nodes, 'node')}, and trainer.num_nodes="
            f"{trainer.num_nodes} × trainer.devices={trainer.devices} make {trainer.num_nodes * int(devices)}; "
            f"give trainer.num_nodes={job.nodes} trainer.devices={max(1, job.tasks // job.nodes)}, or another "
            "--nodes and --ntasks-per-node",
            exit_code=2,
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
