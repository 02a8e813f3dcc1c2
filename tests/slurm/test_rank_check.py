"""Ranks meet before anything is computed: who is missing, which node does not see a folder, which has no GPU."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from dig.config import UserError
from dig.config.schema import SlurmConfig
from dig.slurm import rank_check
from dig.slurm.job import SlurmJob
from dig.slurm.rank_check import RankCheck, check_ranks

JOB = SlurmJob("7", 7, "dig", 0, 3, 3, "node1", "node[1-3]", step=True, restarts=0)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def meet(ranks: list[int], folders: list[Path], config: SlurmConfig) -> list[str]:
    """What each rank of three is told; threads stand for the processes."""
    port = free_port()

    def attend(rank: int) -> str:
        job = replace(JOB, rank=rank, node=f"node{rank + 1}")
        try:
            RankCheck(job, config, folders, "127.0.0.1", port).hold()
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(attend, ranks))


def test_all_are_there_and_nothing_is_left(tmp_path: Path) -> None:
    folders = [tmp_path / "run", tmp_path / "home"]
    assert meet([0, 1, 2], folders, SlurmConfig(start_timeout=30)) == ["", "", ""]
    assert [list(folder.iterdir()) for folder in folders] == [[], []]


def test_who_is_missing_is_named_to_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlurmJob, "node_of", lambda self, rank: f"node{rank + 1}")
    told = meet([0, 1], [tmp_path], SlurmConfig(start_timeout=2))
    wanted = "rank 2 (node3) has not started within 2 s (slurm.start_timeout), of 3 ranks; look at their logs and nodes"
    assert told == [wanted, wanted]


def test_a_rank_0_that_does_not_start_is_named() -> None:
    (told,) = meet([1], [], SlurmConfig(start_timeout=2))
    assert told.startswith("rank 0 did not answer at 127.0.0.1:") and "says rank 1 on node2" in told


def test_a_rank_0_that_hangs_is_named_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    class Hanging:
        """A store whose server was stopped: nothing comes back, and no wait ends."""

        def set(self, key: str, value: str) -> None:
            released.wait()
            raise RuntimeError("the connection was closed")

    monkeypatch.setattr(rank_check, "_VERDICT_TIME", 0.1)
    monkeypatch.setattr(RankCheck, "_store", lambda self: Hanging())
    config = SlurmConfig(start_timeout=1, shared_timeout=1)
    with pytest.raises(UserError, match=r"rank 1 on node2: rank 0 has not answered within 5\.2 s while all ranks"):
        RankCheck(replace(JOB, rank=1, node="node2"), config, [], "127.0.0.1", 1).hold()
    released.set()


def test_a_folder_that_one_does_not_see_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = rank_check._listed
    monkeypatch.setattr(rank_check, "_listed", lambda token: token.parent.name != "apart" and seen(token))
    told = meet([0, 1, 2], [tmp_path / "shared", tmp_path / "apart"], SlurmConfig(shared_timeout=1))
    assert len(set(told)) == 1
    assert f"{tmp_path / 'apart'} is not shared: node2 does not see what node1 writes there, after 1 s" in told[0]
    assert not list((tmp_path / "apart").iterdir())


def test_what_ranks_say_is_in_their_order_whoever_is_first() -> None:
    class Answers:
        """A store in which rank 2 has answered before rank 1."""

        asked = 0

        def check(self, keys: list[str]) -> bool:
            self.asked += 1
            return keys == ["seen/2"] or self.asked > 2

        def get(self, key: str) -> bytes:
            return f"node{int(key[-1]) + 1}".encode()

    call = RankCheck(JOB, SlurmConfig(), [], "127.0.0.1", 1)
    assert list(call._gather(Answers(), "seen", 5).values()) == ["node2", "node3"]


def test_a_node_without_its_gpus_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    told = meet([0, 1, 2], [tmp_path], SlurmConfig(nodes=3, gpus=4))
    assert len(set(told)) == 1 and "sees 3 GPUs of slurm.gpus=4 on node1" in told[0]
    with pytest.raises(UserError, match=r"sees 3 GPUs of slurm\.gpus=4 on node1"):
        check_ranks(replace(JOB, tasks=1), SlurmConfig(gpus=4), [tmp_path])
    check_ranks(replace(JOB, tasks=1), SlurmConfig(gpus=2), [tmp_path])
