"""Starts the ranks of one machine, watches over them, and tells which of them ended it and why.

The work is torchrun's (``torch.distributed.elastic``); what is ours is when to launch and the line at the end.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Sequence

from dig.config import Config
from dig.engine.machine import cores, devices_here
from dig.engine.ranks import launched
from dig.engine.signals import PREEMPTED

__all__ = ["end_with_launcher", "needs_ranks", "run_ranks"]

_PARENT = "DIG_LAUNCHER"
_KILLED = "; the other ranks were stopped; the same command resumes from the last checkpoint"


def needs_ranks(config: Config) -> int:
    """How many ranks have to be started here: 0 where one process is enough, or a launcher has started them."""
    trainer = config.trainer
    if launched() or trainer.num_nodes > 1:
        return 0
    if trainer.devices == 1:
        return 0
    devices = devices_here(trainer)
    return devices if devices > 1 else 0


def run_ranks(module: str, arguments: Sequence[str], ranks: int) -> int:
    """Runs ``python -m module arguments`` as this many ranks and returns the exit code: 0 when all have ended well, the
    code of the first to fail, 1 when one was killed.

    A SIGTERM or SIGUSR1 reaches all ranks as SIGTERM, and they have half a minute to leave a checkpoint.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    logging.getLogger("torch.distributed.launcher").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(cores() // ranks, 1)))
    signal.signal(signal.SIGUSR1, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
    os.environ[_PARENT] = str(os.getpid())
    config = LaunchConfig(
        1,
        1,
        ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.5,
        start_method="spawn",
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:  # it has told its reason itself
            return int(failure.exitcode)
        name = signal.Signals(-failure.exitcode).name
        print(f"error: rank {rank} was killed by {name} (signal {-failure.exitcode}){_KILLED}", file=sys.stderr)
        return 1
    except SignalException as error:
        return PREEMPTED if error.sigval == signal.SIGTERM else 128 + error.sigval
    return 0


def end_with_launcher() -> None:
    """Ends this rank when the process that launched it is gone: killed, it could not take its ranks along."""
    parent = os.environ.get(_PARENT)
    if parent is None or not launched():
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="launcher-watch").start()
