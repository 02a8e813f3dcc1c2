"""prepare as a stage: shared by processes, told apart by everything that decides its result."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.preloaded import Preloaded

from dig.config import load_config
from dig.stages.prepare import STAGE


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    rows = [f"u{user},i{(user + step) % 9},{step}" for user in range(50) for step in range(6)]
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    (folder / "items.jsonl").write_text("\n".join(f'{{"item_id": "i{n}", "title": "Item {n}"}}' for n in range(9)))
    return folder


def start(shop: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"DIG_HOME": str(shop.parent / "home")}
    command = [
        sys.executable,
        "-m",
        "dig.train",
        f"data.path={shop}",
        "stages=[prepare]",
        f"runs_dir={shop.parent}/runs",
    ]
    return Preloaded(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_of_two_processes_one_works_and_one_waits(shop: Path):
    processes = [start(shop), start(shop)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert all("50 users, 9 items, 300 interactions" in output for output in outputs)
    assert sum("prepare      cached" in output for output in outputs) == 1
    found = [
        path for path in (shop.parent / "home/artifacts/prepare").iterdir() if path.suffix not in (".lock", ".runs")
    ]
    assert len(found) == 1 and (found[0] / "manifest.json").is_file()  # one artifact, no half one


def test_who_comes_second_waits_for_the_first(shop: Path):
    key = start(shop).communicate(timeout=120)[0] and next((shop.parent / "home/artifacts/prepare").glob("*.lock"))
    artifact = key.with_suffix("")
    for path in sorted(artifact.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    artifact.rmdir()
    with key.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        second = start(shop)
        timer = threading.Timer(100, second.kill)
        timer.start()
        assert second.stdout is not None
        waits = any("another process is building the same artifact; waiting" in line for line in second.stdout)
        assert waits and second.poll() is None and not artifact.exists()
    output = second.communicate(timeout=120)[0]
    timer.cancel()
    assert second.returncode == 0 and "50 users" in output and artifact.is_dir()


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        ("data.split=global-time", True),
        ("data.k_core=2", True),
        ("data.duplicates=first", True),
        ("data.min_interactions=4", True),
        ("data.catalogue=interacted", True),
        ("data.columns={title: name}", True),
        ("data.leaks=drop", False),
        ("data.download=false", False),
        ("data.mirrors=[http://x]", False),
        ("sft.epochs=1", False),
    ],
)
def test_what_decides_the_result_is_read(shop: Path, change: str, matters: bool):
    plain = STAGE.config_keys(load_config(None, [f"data.path={shop}"]))
    assert (STAGE.config_keys(load_config(None, [f"data.path={shop}", change])) != plain) == matters


def test_the_content_of_the_files_is_read_not_their_place(shop: Path, tmp_path: Path):
    plain = STAGE.config_keys(load_config(None, [f"data.path={shop}"]))
    moved = shop.rename(tmp_path / "elsewhere")
    assert STAGE.config_keys(load_config(None, [f"data.path={moved}"])) == plain
    with (moved / "interactions.csv").open("a") as stream:
        stream.write("u1,i1,99\n")
    assert STAGE.config_keys(load_config(None, [f"data.path={moved}"])) != plain
