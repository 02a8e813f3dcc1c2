"""Submitting: what sbatch is given, what is told, and what there is to say when it does not work."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.slurm_tools import stand_in

from dig.train import main

ARGUMENTS = ["experiment=quickstart", "slurm.nodes=2", "slurm.tasks=1"]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")
    return tmp_path


def test_it_says_job_logs_and_how_to_cancel(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = stand_in(folder / "bin", "sbatch", "echo '4711;cluster'")
    assert main(ARGUMENTS) == 0
    told = capsys.readouterr().out
    assert "job 4711: 2 × 1 tasks" in told and "scancel 4711" in told
    assert "runs/slurm/dig-quickstart-4711.log" in told and "runs/slurm/dig-quickstart-4711-0.log" in told
    flag, script = calls.read_text().split()
    assert flag == "--parsable"
    text = (folder / script).read_text()
    assert "experiment=quickstart slurm.nodes=2 slurm.tasks=1" in text and "very-secret" not in text
    assert main(ARGUMENTS) == 0
    assert calls.read_text().split()[3] == script, "the same command writes the same script"


def test_dry_run_prints_the_script_and_submits_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = stand_in(folder / "bin", "sbatch", "echo 1")
    assert main([*ARGUMENTS, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("#!/bin/bash\n") and not calls.exists()
    assert not (folder / "runs").exists()


def test_no_sbatch_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert main(ARGUMENTS) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: there is no sbatch here") and "\n" not in error and "--dry-run" in error


def test_a_refusal_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(folder / "bin", "sbatch", "echo 'sbatch: error: invalid partition specified: x' >&2; exit 1")
    assert main(ARGUMENTS) == 1
    error = capsys.readouterr().err.strip()
    assert "sbatch refused" in error and error.endswith("invalid partition specified: x") and "\n" not in error


def test_an_outer_job_leaves_no_trace_in_the_new_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(folder / "bin", "sbatch", "env > seen.txt; echo 1")
    for name, value in (
        ("SLURM_JOB_ID", "7"),
        ("SLURM_JOB_NAME", "interactive"),
        ("SLURM_NTASKS", "9"),
        ("SLURM_CONF", "/etc/slurm.conf"),
        ("DIG_JOB", "7"),
        ("DIG_LAUNCH", "x"),
    ):
        monkeypatch.setenv(name, value)
    assert main(ARGUMENTS) == 0
    seen = (folder / "seen.txt").read_text()
    assert "DIG_JOB" not in seen and "DIG_LAUNCH" not in seen
    assert "SLURM_CONF=/etc/slurm.conf" in seen and "SLURM_NTASKS" not in seen and "WANDB_API_KEY=" in seen


def test_inside_of_a_notebooks_job_it_submits_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entry 18: it trained in the notebook's job, on whatever that had been given."""
    calls = stand_in(folder / "bin", "sbatch", "echo 4711")
    for name, value in (
        ("SLURM_JOB_ID", "77"),
        ("SLURM_PROCID", "0"),
        ("SLURM_NTASKS", "1"),
        ("SLURM_JOB_NAME", "sys/dashboard/jupyter"),
        ("SLURM_JOB_NUM_NODES", "1"),
    ):
        monkeypatch.setenv(name, value)
    assert main(ARGUMENTS) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "inside of the job sys/dashboard/jupyter 77" in told and "job 4711: 2 × 1 tasks" in told
    script = (folder / calls.read_text().split()[1]).read_text()
    assert 'export DIG_JOB="$SLURM_JOB_ID"' in script, "so that the job itself trains"
