"""From ``slurm.nodes`` and ``slurm.gpus`` to Lightning's devices, and whether the job that runs is the one meant."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields

from dig.config import Config, UserError
from dig.config.schema import SlurmConfig
from dig.engine.console import say, warn
from dig.slurm.job import INTERACTIVE, current_job

__all__ = ["check_submission", "place", "to_submit"]

_LAUNCHERS = ("RANK", "NODE_RANK", "GROUP_RANK")
"""Set where something else than SLURM starts the processes of several nodes, torchrun for example."""
_HERE = ("nodes", "grace", "requeue", "start_timeout", "shared_timeout")
"""Keys of ``slurm`` that the running process reads itself, or that are judged elsewhere."""


def to_submit(config: Config, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a job is to be submitted: ``slurm.nodes`` is set and this process is not a task of a job of dig's."""
    return config.slurm.nodes is not None and not _inside(environment)


def check_submission(config: Config, settings: Sequence[str], environment: Mapping[str, str] = os.environ) -> None:
    """Refuses arguments that ask something of a job where no job is submitted, and tells of such keys in files.

    Args:
        config: the experiment.
        settings: the ``key=value`` arguments. With ``slurm.nodes=null`` among them training here is what is meant.
        environment: of this process.

    Raises:
        UserError: with exit code 2 and the argument.
    """
    if config.slurm.nodes is not None or _inside(environment):
        return
    keys = [setting.partition("=")[0] for setting in settings]
    if "slurm.nodes" in keys:
        return
    defaults = SlurmConfig()
    names = [entry.name for entry in fields(SlurmConfig) if entry.name not in _HERE]
    asked = [f"slurm.{name}" for name in names if getattr(config.slurm, name) != getattr(defaults, name)]
    given = [key for key in asked if key in keys or "slurm" in keys]
    if given:
        value = getattr(config.slurm, given[0].removeprefix("slurm."))
        raise UserError(
            f"{given[0]}={value} says what a job asks for, and without slurm.nodes none is submitted; add "
            "slurm.nodes=1 to submit one, slurm.nodes=null to train on this machine, or leave it out",
            exit_code=2,
        )
    if asked:
        say(f"{', '.join(asked)}: without slurm.nodes no job is submitted, this trains on this machine")


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
        return
    _check_srun(config, environment)
    _tell_of_idle_tasks(config, environment)
    if slurm.nodes is None and trainer.num_nodes > 1 and not any(name in environment for name in _LAUNCHERS):
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes} needs somebody who starts the tasks on the nodes; "
            f"slurm.nodes={trainer.num_nodes} submits a job to SLURM that does",
            exit_code=2,
        )


def _check_srun(config: Config, environment: Mapping[str, str]) -> None:
    """A script of one's own that asks for the very tasks of ``slurm.*`` meant them: another job would be a mistake."""
    slurm = config.slurm
    if slurm.nodes is None or not _in_script(environment):
        return
    tasks = environment.get("SLURM_NTASKS", "")
    nodes = environment.get("SLURM_NNODES", environment.get("SLURM_JOB_NUM_NODES", ""))
    ranks = slurm.nodes * (slurm.gpus or slurm.tasks)
    if ranks > 1 and (tasks, nodes) == (str(ranks), str(slurm.nodes)):
        raise UserError(
            f"this job has the {ranks} tasks on {_count(slurm.nodes, 'node')} that slurm.* asks for, but "
            "its script starts one process; put srun before python, as scripts/slurm.sbatch does; env -u "
            "SLURM_NTASKS python … submits another job from here",
            exit_code=2,
        )


def _tell_of_idle_tasks(config: Config, environment: Mapping[str, str]) -> None:
    """A script of one's own that asks for several tasks and forgets srun leaves all but one idle."""
    tasks = environment.get("SLURM_NTASKS", "1")
    if config.slurm.nodes is None and _in_script(environment) and tasks.isdecimal() and int(tasks) > 1:
        warn(
            f"this job has {tasks} tasks, and one process trains here as if there was no SLURM; where all of them are "
            "meant to, put srun before python, as scripts/slurm.sbatch does"
        )


def _in_script(environment: Mapping[str, str]) -> bool:
    """Whether a job's script started this process by itself, not ``srun`` and no other launcher."""
    launched = "SLURM_STEP_ID" in environment or any(name in environment for name in _LAUNCHERS)
    return "SLURM_PROCID" in environment and not launched


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
        raise UserError(
            f"the job is called {name!r}, which stands for a person's shell, so each task would train "
            "alone; name it: srun --job-name=dig …, or export SLURM_JOB_NAME=dig",
            exit_code=2,
        )
    job, trainer = current_job(environment), config.trainer
    if job is None:
        raise AssertionError("asked outside of a job")
    if job.tasks > 1 and not job.step:
        raise UserError(
            f"SLURM gave this job {job.tasks} tasks, but its script starts one process; put srun before "
            "python, as scripts/slurm.sbatch does",
            exit_code=2,
        )
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
