"""Every command of docs/sweeps.md is one that runs, and what the page claims is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from dig.sweep import main
from dig.sweeps.file import METHODS
from dig.sweeps.request import sweep_options
from dig.sweeps.space import DISTRIBUTIONS

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "sweeps.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    lines = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.startswith("python -m dig.sweep")]


def test_there_are_commands():
    assert len(commands()) >= 5


@pytest.mark.parametrize("command", commands())
def test_each_command_is_a_sweep(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("DIG_HOME", str(tmp_path))
    arguments = shlex.split(command)[3:]
    assert main([*arguments, *(() if "--dry-run" in arguments else ("--dry-run",))]) == 0
    assert "what is computed" in capsys.readouterr().out
    assert not any(tmp_path.iterdir())


def test_the_table_of_files_says_what_they_hold():
    rows = dict(re.findall(r"\| `sweeps/(\w+)\.yaml` \|[^|]*\| (\d+)", PAGE))
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (PROJECT / "sweeps").glob("*.yaml")}
    assert set(rows) == set(files)
    for name, content in files.items():
        grid = 1
        for parameter in content["parameters"].values():
            grid *= len(parameter.get("values", [0]))
        assert int(rows[name]) == (grid if content["method"] == "grid" else content["run_cap"]), name


def test_flags_and_methods_are_told_of():
    for flag in ("--dry-run", "--status", "--workers", "--trials", "--retry-failed"):
        assert flag in PAGE and flag in sweep_options().format_help()
    assert all(f"`method: {method}`" in PAGE for method in METHODS)
    row = next(line for line in PAGE.splitlines() if line.startswith("| `distribution` |"))
    assert set(re.findall(r"`(\w+)`", row.partition("; refused")[0])) == {"distribution", *DISTRIBUTIONS}
