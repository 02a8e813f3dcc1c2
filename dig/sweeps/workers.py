"""Several workers on one machine, each with its share of cores and a device."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dig.config import UserError
from dig.engine.console import say, warn
from dig.engine.own_files import open_own

__all__ = ["start_workers", "train_alone", "wait_for"]

_RANKS = ("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")


def train_alone() -> None:
    """A worker trains in one process, also where it is one of many SLURM tasks: hides the others from Lightning.

    Raises:
        UserError: with exit code 2, under torchrun.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ or "RANK" in os.environ:
        raise UserError("a sweep's workers are processes of their own: start it without torchrun", exit_code=2)
    for name in _RANKS:
        os.environ.pop(name, None)


def start_workers(count: int, arguments: Sequence[str], folder: Path) -> list[subprocess.Popen[bytes]]:
    """Starts all workers but this one, and takes this one's share of the machine.

    Args:
        count: workers in all.
        arguments: those of this process.
        folder: the sweep's; each worker's output goes to ``workers/<number>.log``.
    """
    if count == 1:
        return []
    devices = _devices()
    logs = folder / "workers"
    logs.mkdir(parents=True, exist_ok=True)
    started = []
    for number in range(1, count):
        path = logs / f"{number + 1}.log"
        with open_own(path, append=True) as log:
            command = [sys.executable, "-m", "dig.sweep", *arguments, "--worker"]
            started.append(
                subprocess.Popen(  # noqa: S603
                    command,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | _share(number, count, devices),
                )
            )
        say(f"worker {number + 1}: {path}")
    os.environ |= _share(0, count, devices)
    return started


def wait_for(workers: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Waits for all to end; says whether one of them left in the middle."""
    left = False
    for number, worker in enumerate(workers, start=2):
        code = worker.wait()
        if code not in (0, 1):
            left = True
            warn(f"worker {number} ended with {f'signal {-code}' if code < 0 else f'code {code}'}")
    return left


def _share(number: int, count: int, devices: Sequence[str]) -> dict[str, str]:
    """The environment of a worker: threads, and the device that it sees."""
    found = {}
    if "OMP_NUM_THREADS" not in os.environ:
        found["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // count))
    if len(devices) > 1:
        found["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    return found


def _devices() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES gives them."""
    import torch

    count = torch.cuda.device_count()  # asks the driver's library and starts no CUDA, so each worker may still choose
    named = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    return named[:count] if named else [str(device) for device in range(count)]
