"""How ranks share a Trainer's work, and what is said when one of them is lost."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy, StrategyRegistry

from dig.config import UserError, nearest
from dig.config.schema import TrainerConfig
from dig.ranks import global_rank, world_size

__all__ = ["devices_here", "meeting", "strategy_for"]

_LOST = re.compile(r"connection (closed|reset|refused)|timed out|broken pipe|\bnccl\b|\bgloo\b", re.IGNORECASE)


def devices_here(config: TrainerConfig) -> int:
    """Devices, and so ranks, on this machine."""
    devices = config.devices
    if isinstance(devices, int) and devices >= 0:
        return devices
    if isinstance(devices, str) and devices.isdigit():
        return int(devices)
    if isinstance(devices, list | tuple):
        return len(devices)
    return max(torch.cuda.device_count(), 1) if config.accelerator in ("auto", "gpu", "cuda") else 1


def strategy_for(config: TrainerConfig, shards: bool = False) -> Strategy | str:
    """Lightning's strategy, with our patience.

    Args:
        config: the trainer's settings.
        shards: whether what is trained can be shared out; under ``fsdp`` everything else is held whole by each rank.

    Raises:
        UserError: there is no such strategy.
    """
    ranks = max(world_size(), devices_here(config) * config.num_nodes)
    timeout = timedelta(seconds=config.timeout)
    if ranks == 1 and config.strategy in ("auto", "ddp", "fsdp"):
        return "auto"
    if config.strategy == "fsdp" and shards:
        # one file a checkpoint, so that any number of ranks and the report can read it
        return ModelParallelStrategy(ranks, 1, save_distributed_checkpoint=False, timeout=timeout)
    if config.strategy in ("auto", "ddp", "fsdp"):
        return DDPStrategy(timeout=timeout)
    known = StrategyRegistry.available_strategies()
    if config.strategy not in known:
        hint = nearest(config.strategy, known) or "ddp"
        raise UserError(f"trainer.strategy={config.strategy} is none of Lightning's; did you mean {hint!r}?", 2)
    return config.strategy


@contextmanager
def meeting(stage: str) -> Generator[None]:
    """Turns what a rank sees when another one is gone into a line.

    Raises:
        UserError: a rank did not come, or left.
    """
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not (isinstance(error, torch.distributed.DistError) or _LOST.search(str(error))):
            raise
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{stage}: rank {global_rank()} has lost another rank, or waited for it longer than trainer.timeout "
            f"({first}); the launcher tells which; the same command goes on from the last checkpoint"
        ) from error
