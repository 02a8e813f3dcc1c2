"""Where W&B's files wait: beside the run, unless the user chose a place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dig.tracking.connection import _stage_files_in


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_DATA_DIR", "DIG_WANDB_STAGED"):
        monkeypatch.setenv(name, "")  # so that what the test leaves is taken back
        monkeypatch.delenv(name)


def test_a_users_own_place_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", "theirs")
    _stage_files_in(tmp_path)
    assert os.environ["WANDB_DATA_DIR"] == "theirs"


def test_each_run_has_its_own_place_also_in_processes_that_an_earlier_run_started(tmp_path: Path) -> None:
    _stage_files_in(tmp_path / "one")
    _stage_files_in(tmp_path / "two")
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "two")
    program = (
        "import os, sys; from pathlib import Path; from dig.tracking.connection import _stage_files_in;"
        "_stage_files_in(Path(sys.argv[1])); print(os.environ['WANDB_DATA_DIR'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "three")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path / "three")
