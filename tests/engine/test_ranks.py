"""Rank 0 leads the others through artifacts: what it builds, finds damaged, fails at; what they see of its death."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.preloaded import Preloaded

from dig.config import UserError
from dig.engine.ranks import follow, global_rank, launch_id, launched, leading, world_size

LAUNCHERS = {
    "nobody": ({}, (False, 0, 1)),
    "torchrun": ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}, (True, 3, 8)),
    "srun": (
        {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "dig"},
        (True, 2, 4),
    ),
    "a shell in a job": (
        {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "bash"},
        (False, 0, 1),
    ),
    "lightning": ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, (True, 1, 2)),
}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "SLURM_PROCID",
        "SLURM_NTASKS",
        "SLURM_JOB_NAME",
        "DIG_LAUNCH",
        "SLURM_JOB_ID",
        "SLURM_STEP_ID",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_who_this_is(launcher: str, monkeypatch: pytest.MonkeyPatch):
    environment, expected = LAUNCHERS[launcher]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (launched(), global_rank(), world_size()) == expected


def test_a_launch_has_a_name_that_its_ranks_share_and_a_requeued_job_does_not(monkeypatch: pytest.MonkeyPatch):
    job = {"SLURM_PROCID": "0", "SLURM_JOB_NAME": "dig", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    first = launch_id()
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert launch_id() == first
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert launch_id() != first


RANK = """
import os, sys, time
from pathlib import Path
from dig.engine.artifacts import ArtifactStore
from dig.config import Config, UserError, load_config
from dig.engine.stage import StageContext, build_alone, build_together
rank, seconds, how, root = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
os.environ.update(RANK=str(rank), WORLD_SIZE="2", DIG_LAUNCH="one")
config = load_config("quickstart", ["trainer.timeout=3"])
context = StageContext(config, {}, ArtifactStore(root), root)
def build(folder):
    with (root / "built").open("a") as stream:
        stream.write(str(rank))
    if how == "fails" and rank == 0:
        raise UserError("no such thing")
    time.sleep(seconds)
    while how == "together" and len((root / "built").read_text()) < 2:
        time.sleep(0.05)  # as a collective call waits
    if rank == 0:
        (folder / "result").write_text("done")
try:
    found = (build_together if how == "together" else build_alone)(context, "kind", "key", build, {})
    print((found.path / "result").read_text())
except UserError as error:
    print("error:", error)
"""


def rank(number: int, root: Path, how: str = "alone", seconds: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RANK, str(number), str(seconds), how, str(root)]
    return Preloaded(command, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=120)[0].strip()


@pytest.mark.parametrize(("how", "built"), [("alone", {"0"}), ("together", {"0", "1"})])
def test_rank_0_builds_and_the_other_waits_or_builds_along(how: str, built: set[str], tmp_path: Path):
    other, first = rank(1, tmp_path, how), rank(0, tmp_path, how, seconds=1.0)
    assert said(first) == said(other) == "done"
    assert set((tmp_path / "built").read_text()) == built


def test_the_other_does_not_take_a_damaged_artifact_that_rank_0_rebuilds(tmp_path: Path):
    assert [said(each) for each in (rank(0, tmp_path), rank(1, tmp_path))] == ["done", "done"]
    result = tmp_path / "artifacts" / "kind" / "key" / "result"
    result.write_text("ruin")
    (tmp_path / "artifacts" / "kind" / "key.ranks").unlink()  # another launch
    other, first = rank(1, tmp_path), rank(0, tmp_path, seconds=1.0)
    assert "done" in said(first) and said(other) == "done"
    assert (tmp_path / "built").read_text() == "00"


def test_the_other_tells_why_rank_0_failed(tmp_path: Path):
    other, first = rank(1, tmp_path, "fails"), rank(0, tmp_path, "fails")
    assert said(first) == "error: no such thing"
    assert said(other) == "error: kind: rank 0 has failed: no such thing"


def test_the_other_gives_up_on_a_rank_0_that_is_dead(tmp_path: Path):
    first = rank(0, tmp_path, seconds=60.0)
    while not (tmp_path / "built").exists():
        time.sleep(0.05)
    first.kill()
    first.wait()
    assert "no sign of life from rank 0 for 3 s" in said(rank(1, tmp_path))


def test_a_slow_rank_0_is_waited_for_longer_than_the_patience(tmp_path: Path):
    other, first = rank(1, tmp_path), rank(0, tmp_path, seconds=5.0)  # the patience is 3 s
    assert said(first) == said(other) == "done"


def test_a_clock_that_jumps_changes_no_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    jumps = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    started = time.monotonic()
    with pytest.raises(UserError, match="no sign of life"):
        follow(tmp_path / "word", "kind", patience=1.0)
    assert time.monotonic() - started >= 1.0
    monkeypatch.setenv("DIG_LAUNCH", "one")
    with leading(tmp_path / "word"):
        pass
    assert json.loads((tmp_path / "word").read_text())["state"] == "ready"
    assert follow(tmp_path / "word", "kind", patience=1.0) is False


def test_the_word_of_another_launch_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIG_LAUNCH", "yesterday")
    with leading(tmp_path / "word"):
        pass
    monkeypatch.setenv("DIG_LAUNCH", "today")
    with pytest.raises(UserError, match="no sign of life"):
        follow(tmp_path / "word", "kind", patience=0.3)
