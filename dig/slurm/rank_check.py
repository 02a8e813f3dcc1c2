"""Before anything is computed: is every rank there, does it see what rank 0 writes, has it its GPU?

Without it a rank that never starts shows as a hang in the first collective call, and a folder that nodes do not share
as a rank that waits for hours for a file that lies elsewhere.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch
from torch.distributed import Store, TCPStore

from dig.config import UserError
from dig.config.schema import SlurmConfig
from dig.slurm.job import SlurmJob

__all__ = ["RankCheck", "check_ranks"]

_VERDICT_TIME = 10.0
"""Seconds that rank 0 keeps the store up for others to read the verdict."""


def check_ranks(job: SlurmJob, config: SlurmConfig, folders: Sequence[Path]) -> None:
    """Holds the job up until all its tasks are there, see the folders and have their GPUs.

    Raises:
        UserError: who is missing, or which node misses what.
    """
    if job.tasks == 1:
        problem = _missing_gpus(job, config.gpus)
        if problem:
            raise UserError(problem)
        return
    from lightning.fabric.plugins.environments import SLURMEnvironment

    host = os.environ.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(job.node_list)
    own = os.environ.get("MASTER_PORT")
    port = int(own) + 1 if own else 25_000 + job.number % 10_000  # Lightning takes 15,000 and so on
    RankCheck(job, config, folders, host, port).hold()


class RankCheck:
    """A meeting of all ranks at a store that rank 0 serves.

    Args:
        job: seen by this rank.
        config: patience, and GPUs per node.
        folders: what all nodes have to share.
        host: rank 0's node.
        port: of the store.
    """

    def __init__(self, job: SlurmJob, config: SlurmConfig, folders: Sequence[Path], host: str, port: int) -> None:
        self.job, self.config, self.folders = job, config, folders
        self.host, self.port = host, port
        self._others = set(range(1, job.tasks))
        """Ranks that rank 0 waits for."""

    def hold(self) -> None:
        """Rank 0 asks, the others answer; all get the same verdict.

        Raises:
            UserError: with the verdict.
        """
        store = self._store()
        verdict = self._call(store) if self.job.rank == 0 else self._answer_in_time(store)
        if verdict:
            raise UserError(verdict)

    def _store(self) -> Store:
        patience = self.config.start_timeout
        try:
            return TCPStore(
                self.host,
                self.port,
                self.job.tasks,
                self.job.rank == 0,
                timedelta(seconds=patience),
                wait_for_workers=False,
            )
        except RuntimeError as error:  # torch's errors of stores are RuntimeErrors
            if self.job.rank == 0:
                reason = str(error).splitlines()[0]
                raise UserError(
                    f"rank 0 cannot listen on port {self.port} of {self.job.node} ({reason}); "
                    "set MASTER_PORT to a free one"
                ) from None
            raise UserError(
                f"rank 0 did not answer at {self.host}:{self.port} within {patience} s "
                f"(slurm.start_timeout), says rank {self.job.rank} on {self.job.node}; it did not start, "
                "or the nodes do not reach each other"
            ) from None

    def _answer_in_time(self, store: Store) -> str:
        """The store counts its waits on rank 0's side: where that process hangs, they would not end by themselves."""
        verdicts: list[str] = []
        answering = threading.Thread(target=lambda: verdicts.append(self._answer(store)), daemon=True)
        answering.start()
        seconds = 2 * self.config.start_timeout + 3 * self.config.shared_timeout + 2 * _VERDICT_TIME
        answering.join(seconds)
        if verdicts:
            return verdicts[0]
        return (
            f"rank {self.job.rank} on {self.job.node}: rank 0 has not answered within {seconds:g} s while all ranks "
            "were met; its process or its node hangs"
        )

    def _answer(self, store: Store) -> str:
        """A rank other than 0: says that it is here, looks for the tokens, and hears the verdict."""
        rank = self.job.rank
        try:
            store.set(f"here/{rank}", _missing_gpus(self.job, self.config.gpus))
            store.wait(["tokens"], timedelta(seconds=2 * self.config.start_timeout))
            tokens = json.loads(store.get("tokens"))
            unseen = self._unseen([Path(token) for token in tokens])
            store.set(f"seen/{rank}", f"{self.job.node}: {unseen}" if unseen else "")
            store.wait(["verdict"], timedelta(seconds=2 * self.config.shared_timeout + 10))
            verdict = store.get("verdict").decode()
            store.set(f"heard/{rank}", "")
        except RuntimeError:
            return f"rank {rank} on {self.job.node}: rank 0 has ended while all ranks were met; its log says why"
        return verdict

    def _call(self, store: Store) -> str:
        tokens = [folder / f".seen-{self.job.number}-{secrets.token_hex(4)}" for folder in self.folders]
        try:
            verdict = self._absent(store)
            if not verdict:
                for token in tokens:
                    token.parent.mkdir(parents=True, exist_ok=True)
                    token.touch()
            store.set("tokens", json.dumps([] if verdict else list(map(str, tokens))))
            verdict = verdict or self._apart(store)
        finally:
            for token in tokens:
                token.unlink(missing_ok=True)
        store.set("verdict", verdict)
        self._gather(store, "heard", _VERDICT_TIME)
        return verdict

    def _absent(self, store: Store) -> str:
        """Who is not here, or has no GPU."""
        answers = self._gather(store, "here", self.config.start_timeout)
        missing = sorted(self._others - set(answers))
        self._others = set(answers)
        if missing:
            named = ", ".join(f"{rank}{self._on_node(rank)}" for rank in missing)
            which = f"rank {named} has" if len(missing) == 1 else f"ranks {named} have"
            return (
                f"{which} not started within {self.config.start_timeout} s (slurm.start_timeout), of "
                f"{self.job.tasks} ranks; look at their logs and nodes"
            )
        problems = [_missing_gpus(self.job, self.config.gpus), *answers.values()]
        return next(filter(None, problems), "")

    def _on_node(self, rank: int) -> str:
        node = self.job.node_of(rank)
        return f" ({node})" if node else ""

    def _apart(self, store: Store) -> str:
        """Which node does not see what rank 0 wrote."""
        answers = self._gather(store, "seen", self.config.shared_timeout + _VERDICT_TIME)
        problem = next(filter(None, answers.values()), "")
        if not problem and set(answers) == self._others:
            return ""
        if not problem:
            return "a rank ended while all ranks were met; its log says why"
        node, _, folder = problem.partition(": ")
        return (
            f"{folder} is not shared: {node} does not see what {self.job.node} writes there, after "
            f"{self.config.shared_timeout} s (slurm.shared_timeout); put runs_dir and DIG_HOME on a file system "
            "that all nodes mount"
        )

    def _gather(self, store: Store, kind: str, seconds: float) -> dict[int, str]:
        """What the other ranks say, by rank, of those that say it in time."""
        deadline = time.monotonic() + seconds
        waiting, answers = set(self._others), {}
        while waiting:
            for rank in sorted(waiting):
                if store.check([f"{kind}/{rank}"]):
                    answers[rank] = store.get(f"{kind}/{rank}").decode()
                    waiting.discard(rank)
            if time.monotonic() > deadline:
                break
            time.sleep(0.1 if waiting else 0)
        return {rank: answers[rank] for rank in sorted(answers)}  # whoever says it first, the lowest rank is named

    def _unseen(self, tokens: Sequence[Path]) -> str:
        """The first folder in which a token does not show up in time; empty when all do."""
        deadline = time.monotonic() + self.config.shared_timeout
        for token in tokens:
            while not _listed(token):
                if time.monotonic() > deadline:
                    return str(token.parent)
                time.sleep(0.2)
        return ""


def _listed(token: Path) -> bool:
    """Reads the folder, since a network file system may remember for a while that a file was not there."""
    try:
        return token in token.parent.iterdir()
    except OSError:
        return False


def _missing_gpus(job: SlurmJob, wanted: int) -> str:
    if not wanted or torch.cuda.device_count() >= wanted:
        return ""
    return (
        f"rank {job.rank} sees {torch.cuda.device_count()} GPUs of slurm.gpus={wanted} on {job.node}; is its "
        "driver up, and does no option bind a task to one GPU?"
    )
