"""Ranks that dig starts itself: one that is killed ends the others, with its number and reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.workplace import built_artifacts, tokenized_workplace, wait_for_checkpoint

from dig.config import load_config
from dig.engine.launch import needs_ranks

TWO = ("trainer.accelerator=cpu", "trainer.devices=2", "stages=[sft]")


@pytest.mark.parametrize(
    ("overrides", "environment", "expected"),
    [
        ([], {}, 0),
        (["trainer.devices=2"], {}, 2),
        (["trainer.devices=[0,1,2]"], {}, 3),
        (["trainer.devices=auto", "trainer.accelerator=cpu"], {}, 0),
        (["trainer.devices=2"], {"RANK": "1"}, 0),
        (["trainer.devices=2", "trainer.num_nodes=2"], {"SLURM_JOB_ID": "7", "DIG_JOB": "7", "SLURM_PROCID": "1"}, 0),
    ],
)
def test_when_ranks_are_started(
    overrides: list[str], environment: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert needs_ranks(load_config("quickstart", overrides)) == expected


def ranks_of(process: subprocess.Popen[str]) -> dict[int, int]:
    """Rank → process id of what a launcher has started."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            variables = entry.joinpath("environ").read_bytes().decode().split("\0")
        except OSError:
            continue
        if parent == process.pid:
            found |= {int(each.partition("=")[2]): int(entry.name) for each in variables if each.startswith("RANK=")}
    return found


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_killed_rank_and_a_killed_launcher_end_the_job_and_the_next_start_goes_on(tmp_path: Path):
    workplace = tokenized_workplace(tmp_path)
    process = workplace.start(*TWO)
    assert wait_for_checkpoint(workplace, "sft", process, newer_than=0)
    ranks = ranks_of(process)
    assert sorted(ranks) == [0, 1]
    os.kill(ranks[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: rank 1 was killed by SIGKILL (signal 9)" in output and "resumes from the last checkpoint" in output
    assert "Traceback" not in output and gone(ranks[0])

    process = workplace.start(*TWO)
    assert wait_for_checkpoint(workplace, "sft", process, newer_than=1)
    ranks = ranks_of(process)
    process.kill()  # it cannot take its ranks along
    process.wait()
    deadline = time.monotonic() + 60
    while not all(map(gone, ranks.values())):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    earlier = built_artifacts(workplace)
    assert "sft: resumes from the checkpoint" in workplace.run(*TWO)
    assert built_artifacts(workplace).items() >= earlier.items()


def test_a_mistake_in_the_data_is_a_line_and_its_own_exit_code(tmp_path: Path):
    process = tokenized_workplace(tmp_path).start(*TWO, "sft.resume_from=nowhere.ckpt", fork_ranks=True)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "sft.resume_from=nowhere.ckpt: there is no such file" in output and "Traceback" not in output


def test_a_launch_is_told_by_its_module(tmp_path: Path):
    finished = subprocess.run(
        [sys.executable, "-m", "dig.train", "experiment=quickstart", "trainer.devices=2", "--print-config"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert finished.returncode == 0 and "devices: 2" in finished.stdout  # no rank is started for that
