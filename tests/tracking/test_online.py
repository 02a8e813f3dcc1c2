"""Online against a server of our own: resumed runs, exit codes, servers that fail in every way; no key leaks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import preloaded
from support.wandb_records import Recorded, recorded
from support.wandb_server import KEY, WandbServer, wandb_server

PROGRAM = Path(__file__).parents[1] / "support" / "one_stage.py"
LOSSES = [float(step) for step in range(8)]


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with wandb_server() as server:
        yield server


def train(
    folder: Path, url: str, *overrides: str, end: str = "well", **environment: str
) -> subprocess.CompletedProcess:
    """Runs the program; nothing that it writes may hold the key.

    Opening a run may take long on a busy machine, which must not look like a server that fails.
    """
    home = folder / "person"
    home.mkdir(exist_ok=True)
    ours = {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY, "HOME": str(home), "WANDB_INIT_TIMEOUT": "120"}
    variables = {**os.environ, **ours, **environment}
    command = [sys.executable, str(PROGRAM), str(folder), end, "logging.wandb.mode=online", *overrides]
    done = preloaded.run(command, env=variables, cwd=folder)
    assert KEY not in done.stdout + done.stderr
    assert not [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    return done


def losses(run: Recorded) -> list[float]:
    return [row["train/loss"] for row in run.history if "train/loss" in row]


def sent(server: WandbServer, stage: str) -> list[dict]:
    [name] = [name for name in server.runs if name.startswith(stage)]
    return [json.loads(line) for line in server.runs[name].history]


def test_stages_are_sent_as_runs_of_a_group(server: WandbServer, tmp_path: Path) -> None:
    done = train(tmp_path, server.url, "logging.wandb.project=mine", "logging.wandb.entity=team")
    assert done.returncode == 0, done.stderr
    for stage in ("sft", "grpo"):
        assert [row["train/loss"] for row in sent(server, stage) if "train/loss" in row] == LOSSES
        assert f"W&B: {stage}: {server.url}/team/mine/runs/{stage}-" in done.stdout
    for run in server.runs.values():
        assert run.exit_code == 0
        assert {each["groupName"] for each in run.upserts} - {None} == {"quickstart-run"}
    assert server.keys == {KEY} and "offline" not in done.stdout


def test_a_run_that_opens_late_is_the_stage_s_own_and_lacks_nothing(server: WandbServer, tmp_path: Path) -> None:
    train(tmp_path, server.url, "logging.wandb.mode=offline", "trainer.checkpoint_every=2", end="kill")
    done = train(tmp_path, server.url, "logging.wandb.mode=offline", end="unopened")
    assert done.returncode == 0 and "W&B: no run could be opened (TimeoutError" in done.stdout
    attempts = recorded(tmp_path / "run")["sft"]
    [run_id] = {attempt.run.run_id for attempt in attempts}
    assert run_id == (tmp_path / "sft.work/scratch/wandb_run_id").read_text().strip()
    found = {
        (row["trainer/global_step"], row["train/loss"])
        for attempt in attempts
        for row in attempt.history
        if "train/loss" in row
    }
    assert found == {(step, loss) for step, loss in enumerate(LOSSES)} and attempts[-1].exit_code == 0


def test_a_stage_has_a_process_of_w_and_b_of_its_own(server: WandbServer, tmp_path: Path) -> None:
    """One that a calling program had named would keep a killed stage's run open, and refuse it to the next attempt."""
    place = tmp_path / "calling"
    place.mkdir()
    calling = (
        "import os, subprocess, sys, wandb\n"
        f"mine = wandb.init(mode='offline', dir={str(place)!r}, settings=wandb.Settings(silent=True))\n"
        "assert os.environ['WANDB_SERVICE']\n"
        f"ours = [sys.executable, {str(PROGRAM)!r}, {str(tmp_path)!r}, None, 'logging.wandb.mode=offline']\n"
        "for end in ('kill', 'well'):\n"
        "    ours[3] = end\n"
        "    done = subprocess.run(ours, capture_output=True, text=True, cwd=" + repr(str(tmp_path)) + ")\n"
        "    print(f'ended with {done.returncode}', done.stdout, done.stderr)\n"
        "mine.finish()"
    )
    done = subprocess.run([sys.executable, "-c", calling], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "no run could be opened" not in done.stdout, done.stdout + done.stderr
    assert "ended with -9" in done.stdout and "ended with 0" in done.stdout, done.stdout + done.stderr
    attempts = recorded(tmp_path / "run")["sft"]
    assert len({attempt.run.run_id for attempt in attempts}) == 1 and attempts[-1].exit_code == 0


def test_a_killed_stage_goes_on_in_the_same_run(server: WandbServer, tmp_path: Path) -> None:
    done = train(tmp_path, server.url, "trainer.checkpoint_every=2", end="kill")
    assert done.returncode == -signal.SIGKILL
    assert list(server.runs) == [next(iter(server.runs))]
    done = train(tmp_path, server.url, "trainer.checkpoint_every=2")
    assert done.returncode == 0 and "offline" not in done.stdout, done.stdout + done.stderr
    assert [name.split("-")[0] for name in server.runs] == ["sft", "grpo"]
    rows = sent(server, "sft")
    assert {row["train/loss"] for row in rows if "train/loss" in row} >= {*LOSSES} - {4.0}
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    assert next(iter(server.runs.values())).exit_code == 0


@pytest.mark.parametrize(("end", "code"), [("error", 1), ("interrupt", 130)])
def test_what_fails_is_finished_as_failed(server: WandbServer, tmp_path: Path, end: str, code: int) -> None:
    done = train(tmp_path, server.url, end=end)
    assert done.returncode != 0
    assert ("it went wrong" if end == "error" else "KeyboardInterrupt") in done.stderr
    [run] = server.runs.values()
    assert run.exit_code == code
    assert [json.loads(line)["train/loss"] for line in run.history if "train/loss" in line][:5] == LOSSES[:5]


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("refuses", "does not take the key"),
        ("broken", "answers with HTTP 500"),
        ("hangs", "does not answer within 5 s"),
        ("no_runs", "no run could be opened online"),
    ],
)
def test_a_server_that_fails_is_told_in_a_line_and_the_run_goes_on_offline(
    server: WandbServer, tmp_path: Path, behaviour: str, words: str
) -> None:
    server.behaviour = behaviour
    done = train(tmp_path, server.url, WANDB_INIT_TIMEOUT="5")
    complete_offline(done, tmp_path, words)
    assert not any(run.history for run in server.runs.values())


def test_a_server_that_nobody_reaches(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        complete_offline(train(tmp_path, url), tmp_path, "cannot be reached")


@pytest.mark.parametrize(("key", "words"), [("", "there is no key"), ("short", "no run could be opened online")])
def test_without_a_key_or_with_one_that_is_none(server: WandbServer, tmp_path: Path, key: str, words: str) -> None:
    done = train(tmp_path, server.url, WANDB_API_KEY=key, WANDB_INIT_TIMEOUT="5")
    complete_offline(done, tmp_path, words)
    assert key == "" or f" {key}" not in done.stdout + done.stderr


def complete_offline(done: subprocess.CompletedProcess, folder: Path, words: str) -> None:
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("warning:")]
    assert words in line and "offline" in line
    assert done.stdout.count("W&B: recorded offline; `wandb sync ") == 1
    assert "Traceback" not in done.stdout + done.stderr
    for runs in recorded(folder / "run").values():
        [run] = [run for run in runs if "offline-run-" in str(run.path)]
        assert losses(run) == LOSSES and run.exit_code == 0


def test_uploads_that_get_stuck_do_not_hang_the_process(server: WandbServer, tmp_path: Path) -> None:
    server.behaviour = "stuck"
    done = train(tmp_path, server.url, "logging.wandb.finish_seconds=2")
    assert done.returncode == 0, done.stderr
    for [run] in recorded(tmp_path / "run").values():
        assert losses(run) == LOSSES, "what was not sent is on disk"


def test_disabled_opens_nothing(server: WandbServer, tmp_path: Path) -> None:
    done = train(tmp_path, server.url, "logging.wandb.mode=disabled")
    assert done.returncode == 0 and "W&B" not in done.stdout
    assert not server.asked and not (tmp_path / "run" / "wandb").exists()


def test_other_ranks_log_nothing(server: WandbServer, tmp_path: Path) -> None:
    done = train(tmp_path, server.url, "logging.wandb.mode=offline", RANK="1", LOCAL_RANK="0", end="error")
    assert "it went wrong" in done.stderr
    assert not (tmp_path / "run" / "wandb").exists()
