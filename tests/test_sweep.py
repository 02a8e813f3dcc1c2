"""``python -m dig.sweep``: from a file to tables and plots, killed and resumed, stopped early, failed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from support import preloaded
from support.preloaded import Preloaded
from support.sweep_files import write
from support.workplace import SMALL, tokenized_home

PROJECT = Path(__file__).parents[1]
SETTINGS = [key for key in SMALL if not key.startswith(("experiment=", "rqvae.codebook_size"))]
RATES = {"rqvae.codebook_size": {"values": [4, 8]}, "sft.learning_rate": {"values": [0.002, 0.004]}}


def start(folder: Path, home: Path, path: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "DIG_HOME": str(home), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "dig.sweep", str(path), *SETTINGS, f"runs_dir={folder / 'runs'}", *arguments]
    return Preloaded(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, env=environment)


def run(folder: Path, home: Path, path: Path, *arguments: str, code: int = 0) -> str:
    process = start(folder, home, path, *arguments)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == code, output
    return output


def cheap(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dig.sweep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)


def table(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "runs" / "sweeps" / "some" / "latest" / "trials.parquet").sort("trial")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the stages that all trials share are done."""
    return tokenized_home(tmp_path_factory.mktemp("shared") / "home")


def test_help_and_wrong_files_import_neither_torch_nor_optuna(tmp_path: Path):
    path = write(tmp_path, parameters={"rqvae.codebok_size": {"values": [8]}})
    script = (
        "import sys\nfrom dig.sweep import main\n"
        f"codes = [main(['--help']), main([{str(path)!r}]), main(['nothing.yaml']), main(['--worker', '--dry-rn'])]\n"
        "print(codes, {'torch', 'optuna', 'wandb', 'lightning'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.splitlines()[-1] == "[0, 2, 2, 2] set()"
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and "did you mean rqvae.codebook_size?" in lines[0]
    assert "did you mean --dry-run?" in lines[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sweeps/codebok.yaml"], "did you mean sweeps/codebook.yaml?"),
        (["sweeps/codebook.yaml", "sweeps/reward.yaml"], "one sweep file at a time"),
        (["experiment=quickstart"], "name a sweep file, for example"),
        (["sweeps/codebook.yaml", "--workers", "none"], "--workers none must be a whole number"),
        (["sweeps/codebook.yaml", "experiment=quikstart"], "did you mean quickstart?"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], said: str):
    done = cheap(*arguments)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and said in done.stderr, done.stderr


def test_without_optuna_one_line_names_the_extra(tmp_path: Path):
    script = (
        "import sys\nsys.modules['optuna'] = None\n"
        "class Missing:\n    def find_spec(self, name, *rest):\n        if name == 'optuna':\n"
        "            raise ModuleNotFoundError(\"No module named 'optuna'\", name='optuna')\n"
        "del sys.modules['optuna']\nsys.meta_path.insert(0, Missing())\n"
        f"from dig.sweep import main\nprint(main([{str(write(tmp_path))!r}, 'runs_dir={tmp_path}']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "1" and "pip install 'dig[sweep]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "trials", "stage", "different", "shared"),
    [
        ("codebook", 12, "tokenize", 12, "embed"),
        ("reward", 24, "grpo", 24, "sft"),
        ("backbone", 18, "sft", 18, "tokenize"),
        ("small_backbone", 60, "sft", None, "tokenize"),
    ],
)
def test_a_dry_run_counts_what_the_sweeps_of_the_project_compute(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    trials: int,
    stage: str,
    different: int | None,
    shared: str,
):
    monkeypatch.setenv("DIG_HOME", str(tmp_path))
    command = [sys.executable, "-m", "dig.sweep", f"sweeps/{name}.yaml", "experiment=quickstart", "--dry-run"]
    done = preloaded.run(command, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    assert f"{name}: {trials} trials" in done.stdout
    counts = {
        line.split("│")[1].strip(): [int(each) for each in line.split("│")[2:6]]
        for line in done.stdout.split("what is computed")[1].splitlines()
        if line.startswith("│")
    }
    assert counts[shared][1:] == [1, 0, 1]
    assert counts[stage][0] <= trials and counts[stage][1] == (different or counts[stage][1])
    if name == "small_backbone":  # chance may draw one twice; and some combinations are none, which is said
        assert 40 < counts[stage][1] <= 60
    assert not any(tmp_path.iterdir())


def test_two_workers_are_killed_and_the_same_command_finishes_to_the_same_numbers(tmp_path: Path, home: Path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    homes = []
    for folder in (undisturbed, killed):
        folder.mkdir()
        homes.append(folder / "home")
        shutil.copytree(home, homes[-1])
    path = write(tmp_path, parameters=RATES)
    run(undisturbed, homes[0], path)
    process = start(killed, homes[1], path, "--workers=2")
    pids = _kill_in_the_middle(process, killed, homes[1])
    assert len(pids) >= 1
    output = run(killed, homes[1], path, "--workers=2")
    logs = "".join(log.read_text() for log in (killed / "runs/sweeps/some/latest/workers").glob("*.log"))
    assert "resumes: " in output + logs
    first, second = table(undisturbed), table(killed)
    assert second["state"].to_list() == ["done"] * 4 and second["trial"].to_list() == [1, 2, 3, 4]
    assert first.drop("seconds").equals(second.drop("seconds"))
    page = (killed / "runs/sweeps/some/latest/sweep.html").read_text()
    assert "Parallel coordinates" in page and "valid/ndcg@10" in page
    again = run(killed, homes[1], path)
    assert "starts: " not in again and "resumes: " not in again  # nothing is repeated
    assert "python -m dig.train experiment=quickstart" in again


def _kill_in_the_middle(process: subprocess.Popen[str], folder: Path, home: Path) -> set[int]:
    """Kills all workers once one of them has trained a little; the processes that had a trial then."""
    leases = folder / "runs/sweeps/some"
    deadline = time.monotonic() + 600
    while not list((home / "artifacts" / "sft").glob("*.work/scratch/resume.ckpt")):
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
        time.sleep(0.05)
    pids = {process.pid}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = next(line for line in path.read_text().splitlines() if line.startswith("PPid:"))
        except (OSError, StopIteration):
            continue
        if int(parent.split()[1]) == process.pid:
            pids.add(int(path.parent.name))
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, 9)
    process.wait()
    return {int(json.loads(path.read_text())["pid"]) for path in leases.glob("*/leases/trial-*.json")} & pids


def test_a_bad_trial_is_stopped_early_and_leaves_no_artifact(tmp_path: Path, home: Path):
    mine = tmp_path / "home"
    shutil.copytree(home, mine)
    parameters = {"sft.learning_rate": {"values": [0.004, 1e-9]}}
    path = write(tmp_path, parameters=parameters, early_terminate={"type": "hyperband", "min_iter": 1, "eta": 3})
    output = run(tmp_path, mine, path, "rqvae.codebook_size=8", "sft.epochs=3")
    found = table(tmp_path)
    assert found["state"].to_list() == ["done", "stopped early"], output
    assert found["validations"][0] == 3 and found["validations"][1] == 1
    assert found["valid/ndcg@10"][0] > found["valid/ndcg@10"][1]
    assert "trial 2: stopped early, valid/ndcg@10" in output
    sealed = [each for each in (mine / "artifacts" / "sft").iterdir() if (each / "manifest.json").is_file()]
    assert len(sealed) == 1


DIVERGING = "sft.weight_decay=100"
"""At the largest learning rate that the schema takes, a step multiplies each weight by minus ten thousand."""


def test_a_failed_trial_is_written_down_and_the_sweep_goes_on(tmp_path: Path, home: Path):
    mine = tmp_path / "home"
    shutil.copytree(home, mine)
    path = write(tmp_path, parameters={"sft.learning_rate": {"values": [100.0, 0.004]}})
    arguments = ("rqvae.codebook_size=8", "sft.epochs=1", DIVERGING)
    output = run(tmp_path, mine, path, *arguments, code=1)
    found = table(tmp_path)
    assert found["state"].to_list() == ["failed", "done"] and found["valid/ndcg@10"][0] is None
    assert found["reason"][0].startswith("sft: the ") and "trial 1 failed: sft: the " in output
    status = run(tmp_path, mine, path, *arguments, "--status", code=1)
    assert "starts" not in status and "trial 1 failed" in status
    again = run(tmp_path, mine, path, *arguments, "--retry-failed", code=1)
    assert "1 failed trials are run again" in again and table(tmp_path)["trial"].to_list() == [2, 3]


def test_several_failures_in_a_row_stop_the_sweep(tmp_path: Path, home: Path):
    mine = tmp_path / "home"
    shutil.copytree(home, mine)
    path = write(tmp_path, parameters={"sft.learning_rate": {"values": [100.0, 99.0, 98.0, 0.004]}})
    output = run(tmp_path, mine, path, "rqvae.codebook_size=8", "sft.epochs=1", DIVERGING, code=1)
    assert "3 trials in a row failed, so the sweep stops" in output
    assert table(tmp_path)["state"].to_list() == ["failed"] * 3
