"""Under `wandb agent` all stages of the process are one W&B run, the trial's, which has the sweep's metric."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import preloaded
from support.wandb_records import Recorded

from dig.tracking.connection import trial, trial_metrics

PROGRAM = Path(__file__).parents[1] / "support" / "one_stage.py"


def agent(folder: Path, mode: str, end: str = "well") -> subprocess.CompletedProcess:
    """What `wandb agent` does: the environment names sweep, run and parameters."""
    (folder / "person").mkdir()
    parameters = folder / "config.yaml"
    parameters.write_text("wandb_version: 1\nrqvae.levels:\n  value: 2\nseed:\n  value: 7\n")
    variables = {
        **os.environ,
        "WANDB_SWEEP_ID": "s1",
        "WANDB_RUN_ID": "trial1",
        "WANDB_PROJECT": "theirs",
        "WANDB_SWEEP_PARAM_PATH": str(parameters),
        "HOME": str(folder / "person"),
    }
    command = [sys.executable, str(PROGRAM), str(folder), end, f"logging.wandb.mode={mode}", "rqvae.levels=2", "seed=7"]
    return preloaded.run(command, env=variables, cwd=folder)


def test_all_stages_of_a_trial_are_its_run(tmp_path: Path) -> None:
    done = agent(tmp_path, "offline")
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "run").glob("wandb/*/*.wandb")
    run = Recorded(path)
    assert (run.run.run_id, run.run.sweep_id, run.run.project) == ("trial1", "s1", "theirs")
    assert run.exit_code == 0
    assert (run.config["rqvae.levels"], run.config["rqvae"]["levels"], run.config["seed"]) == (2, 2, 7)
    for stage in ("sft", "grpo"):
        rows = [row for row in run.history if f"{stage}/train/loss" in row]
        assert [row[f"{stage}/train/loss"] for row in rows] == [float(step) for step in range(8)]
        assert [row[f"{stage}/trainer/global_step"] for row in rows] == list(range(8))
        assert run.config[f"effective.{stage}"]["world_size"] == 1
    chosen = json.loads((tmp_path / "grpo.work" / "training.json").read_text())["valid/ndcg@10"]
    assert run.summary["valid/ndcg@10"] == run.history[-1]["valid/ndcg@10"] == chosen == pytest.approx(0.08)
    validations = [row["valid/ndcg@10"] for row in run.history if "valid/ndcg@10" in row]
    assert len(validations) == 2 * 5 + 1, "each validation is there for early termination"
    assert "train/loss" not in run.summary and run.summary["sft/training/steps"] == 8


def test_a_trial_that_fails_is_finished_as_failed(tmp_path: Path) -> None:
    done = agent(tmp_path, "offline", end="error")
    assert done.returncode != 0 and "it went wrong" in done.stderr
    [path] = (tmp_path / "run").glob("wandb/*/*.wandb")
    assert Recorded(path).exit_code == 1


def test_a_trial_that_logs_nothing_is_told(tmp_path: Path) -> None:
    done = agent(tmp_path, "disabled")
    [line] = [line for line in done.stdout.splitlines() if line.startswith("warning:")]
    assert "WANDB_SWEEP_ID" in line and "logging.wandb.mode=disabled" in line


def test_who_started_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    assert trial() is None
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    assert trial() == "mine"


def test_the_last_policy_is_the_trial_and_cached_stages_count(tmp_path: Path) -> None:
    for stage, score in (("sft", 0.25), ("grpo", 0.5), ("sasrec", 0.75)):
        (tmp_path / stage).mkdir()
        content = {"steps": 3, "chosen": "best", "valid/ndcg@10": score, "start": None}
        (tmp_path / stage / "training.json").write_text(json.dumps(content))
    stages = {name: tmp_path / name for name in ("prepare", "sasrec", "sft", "grpo")}
    assert trial_metrics(stages) == {"valid/ndcg@10": 0.5}
    assert trial_metrics({"sft": tmp_path / "sft"}) == {"valid/ndcg@10": 0.25}
    assert trial_metrics({"prepare": tmp_path}) == trial_metrics({}) == {}
