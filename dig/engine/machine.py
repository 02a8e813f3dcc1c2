"""What a configuration asks of this machine, compared with it before anything starts.

A number of processes that the machine cannot hold does not fail, it takes the machine down; an accelerator that is not
there is otherwise missed after the first stages. Nothing here starts a process, and torch is imported only where GPUs
have to be counted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from dig.config import Config, UserError
from dig.config.schema import TrainerConfig
from dig.engine.console import warn
from dig.engine.ranks import launched

__all__ = [
    "accelerator_here",
    "available_memory",
    "check_count",
    "check_machine",
    "check_processes",
    "cores",
    "devices_here",
    "gigabytes",
    "total_memory",
]

RANK_BYTES = 600 * 2**20
"""What a process takes for itself when all is imported and nothing is computed yet: 560 MiB were measured."""
_FEW = 8
"""Ranks on the CPU, and on how few cores they be: a rehearsal of several GPUs."""
_WORKERS_A_CORE = 8
_THREADS_A_CORE = 8
_MANY_THREADS = 256
_FEW_WORKERS = 32
_ROOT = Path("/")
_NEVER_STARTED_HERE = ("spawn", "fork", "notebook")
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, use, and what of it can be dropped, in control groups of version 2 and 1."""


def cores(root: Path = _ROOT) -> int:
    """Cores that this process may use: those it is bound to, or what its control group grants if that is less."""
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        usable = os.cpu_count() or 1
    for folder in _control_groups(root):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            usable = min(usable, max(1, math.ceil(int(quota) / int(period))))
    return usable


def total_memory(root: Path = _ROOT) -> int | None:
    """Bytes of main memory, or what the control group grants if that is less; None where nothing says so."""
    return _least(_meminfo(root, "MemTotal"), (limit for limit, _ in _memory_limits(root)))


def available_memory(root: Path = _ROOT) -> int | None:
    """Bytes that are free for use now, caches that can be dropped included; None where nothing says so."""
    return _least(_meminfo(root, "MemAvailable"), (max(0, limit - used) for limit, used in _memory_limits(root)))


def devices_here(config: TrainerConfig) -> int:
    """Devices, and so ranks, on this machine."""
    devices = config.devices
    if isinstance(devices, list):
        return len(devices)
    if devices != "auto":
        return int(devices)
    return max(_visible_gpus(), 1) if accelerator_here(config) == "cuda" else 1


def accelerator_here(config: TrainerConfig) -> str:
    """What is trained on: `cpu`, `cuda`, `mps` or `tpu`."""
    asked = config.accelerator
    if asked not in ("auto", "gpu"):
        return asked
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu" if asked == "auto" else "cuda"


def check_processes(config: Config, root: Path = _ROOT) -> None:
    """Processes against cores and memory, for ranks that this machine would start on its CPU.

    Raises:
        UserError: with exit code 2 and the figures.
    """
    ranks, usable = devices_here(config.trainer), cores(root)
    if accelerator_here(config.trainer) == "cpu":
        check_count("trainer.devices=", ranks, root)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads) * ranks > max(_MANY_THREADS, _THREADS_A_CORE * usable):
        raise UserError(
            f"OMP_NUM_THREADS={threads} would start {int(threads) * ranks} threads, and this machine has "
            f"{usable} cores; export OMP_NUM_THREADS={max(1, usable // ranks)}",
            exit_code=2,
        )
    for key, workers in (
        ("trainer.num_workers", config.trainer.num_workers),
        ("visual.num_workers", config.visual.num_workers),
    ):
        most = max(_FEW_WORKERS, _WORKERS_A_CORE * usable) // ranks
        if workers > most:
            raise UserError(
                f"{key}={workers} would start {workers * ranks} worker processes, and this machine has "
                f"{usable} cores; give at most {key}={most}",
                exit_code=2,
            )


def check_count(setting: str, count: int, root: Path = _ROOT) -> None:
    """A number of processes on the CPU, each of which trains, against cores and memory.

    Args:
        setting: what asks for them, up to the number.
        count: how many.
        root: of the file system.

    Raises:
        UserError: with exit code 2 and the figures.
    """
    if count == 1:
        return
    usable, free = cores(root), available_memory(root)
    most = max(usable, _FEW)
    if count > most:
        raise UserError(
            f"{setting}{count} would start {count} processes on the CPU, and this machine has {usable} "
            f"cores; give at most {setting}{most}",
            exit_code=2,
        )
    if free is not None and count * RANK_BYTES > free:
        raise UserError(
            f"{setting}{count} needs at least {gigabytes(count * RANK_BYTES)} of memory for its processes "
            f"alone, and {gigabytes(free)} are available; give at most {setting}"
            f"{max(1, free // RANK_BYTES)}",
            exit_code=2,
        )


def check_machine(config: Config) -> None:
    """Accelerator, devices, precision and processes against what is there.

    Where a launcher has started the ranks (torchrun, srun), their number is its matter and is not judged.

    Raises:
        UserError: with exit code 2: the key, what is there, and what would do.
    """
    trainer = config.trainer
    kind = accelerator_here(trainer)
    if kind != "cpu":
        _check_present(trainer, kind)
        _check_devices(trainer, kind)
    elif isinstance(trainer.devices, list):
        raise UserError(
            f"trainer.devices={trainer.devices} names GPUs by their indices, and there is none here; give "
            "a number of processes",
            exit_code=2,
        )
    _check_precision(trainer, kind)
    _check_strategy(trainer)
    if not launched():
        check_processes(config)


def _check_present(trainer: TrainerConfig, kind: str) -> None:
    import torch

    if kind == "cuda":
        present = torch.cuda.is_available()
    elif kind == "mps":
        present = torch.backends.mps.is_available()
    else:
        from lightning.pytorch.accelerators import XLAAccelerator

        present = XLAAccelerator.is_available()
    if present:
        return
    name = {"cuda": "GPU", "mps": "Apple GPU", "tpu": "TPU"}[kind]
    why = ""
    if kind == "cuda" and os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles"):
        why = f" (CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']!r} hides them all)"
    elif kind == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        why = " (this torch is built without CUDA)"
    raise UserError(
        f"trainer.accelerator={trainer.accelerator}: no {name} is seen here{why}; take trainer.accelerator=auto or cpu",
        exit_code=2,
    )


def _check_devices(trainer: TrainerConfig, kind: str) -> None:
    count = _visible_gpus() if kind == "cuda" else 1 if kind == "mps" else None
    if count is None or trainer.devices == "auto":
        return
    devices = trainer.devices
    seen = f"{count} GPU{'' if count == 1 else 's'} {'is' if count == 1 else 'are'} seen here"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    why = f" (CUDA_VISIBLE_DEVICES={visible})" if visible and kind == "cuda" else ""
    if isinstance(devices, list):
        if max(devices) >= count:
            raise UserError(
                f"trainer.devices={devices} names GPU {max(devices)}, and {seen}{why}: their indices are "
                f"0 to {count - 1}",
                exit_code=2,
            )
    elif devices > count:
        raise UserError(
            f"trainer.devices={devices}, and {seen}{why}; give at most trainer.devices={count}, or auto", exit_code=2
        )


def _check_precision(trainer: TrainerConfig, kind: str) -> None:
    precision = trainer.precision
    if precision.startswith("16") and kind == "cpu":
        raise UserError(
            f"trainer.precision={precision} needs a GPU, and there is none; use bf16-mixed or 32-true", exit_code=2
        )
    if precision.startswith("64") and kind == "mps":
        raise UserError(f"trainer.precision={precision}: an Apple GPU knows no 64 bit; use 32-true", exit_code=2)
    if precision.startswith("bf16") and kind == "cuda":
        import torch

        name = torch.cuda.get_device_name()
        if not torch.cuda.is_bf16_supported():
            raise UserError(
                f"trainer.precision={precision}: {name} knows no bfloat16; use 16-mixed or 32-true", exit_code=2
            )
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            warn(f"trainer.precision={precision}: {name} only emulates bfloat16, which is slow; 16-mixed is not")


def _check_strategy(trainer: TrainerConfig) -> None:
    """Strategies that start processes themselves would start them in each rank that dig has started."""
    for word in _NEVER_STARTED_HERE:
        if f"_{word}" in trainer.strategy:
            raise UserError(
                f"trainer.strategy={trainer.strategy} starts ranks itself, and dig has started them; take "
                "trainer.strategy=ddp",
                exit_code=2,
            )
    if trainer.strategy.startswith("single") and (devices_here(trainer) > 1 or trainer.num_nodes > 1):
        raise UserError(
            f"trainer.strategy={trainer.strategy} lets each of several ranks train alone; take "
            "trainer.strategy=ddp or fsdp, or trainer.devices=1",
            exit_code=2,
        )
    if trainer.strategy.startswith("deepspeed"):
        from importlib.util import find_spec

        if find_spec("deepspeed") is None:
            raise UserError(
                f"trainer.strategy={trainer.strategy} needs the package deepspeed, which is not installed; "
                "trainer.strategy=fsdp shares weights and optimiser out, too",
                exit_code=2,
            )


def _visible_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _control_groups(root: Path) -> Iterator[Path]:
    """Folders of the control groups of this process, from its own up; those of versions 1 and 2 alike."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers not in ("", "memory", "cpu,cpuacct", "cpuacct,cpu", "cpu"):
            continue
        base = root / "sys/fs/cgroup" / controllers
        inner = Path(path.lstrip("/"))
        for folder in (inner, *inner.parents):
            if (base / folder).is_dir() and ".." not in folder.parts:
                yield base / folder


def _memory_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use in bytes of each control group that limits memory; what can be dropped counts as unused."""
    for folder in _control_groups(root):
        lines = (line.split() for line in _text(folder / "memory.stat").splitlines())
        statistics = {words[0]: words[1] for words in lines if len(words) == 2}
        for most, use, dropped in _MEMORY_FILES:
            limit, used = _text(folder / most), _text(folder / use)
            if limit.isdecimal() and used.isdecimal():
                yield int(limit), max(0, int(used) - int(statistics.get(dropped, "0")))


def _meminfo(root: Path, key: str) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == key and value.split()[:1] and value.split()[0].isdecimal():
            return int(value.split()[0]) * 1024
    return None


def _least(first: int | None, others: Iterator[int]) -> int | None:
    return min((value for value in (first, *others) if value is not None), default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def gigabytes(count: float) -> str:
    """A number of bytes as people read it."""
    return f"{count / 1e9:.1f} GB"
