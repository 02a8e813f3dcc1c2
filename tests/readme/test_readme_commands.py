"""Runs every command of the README as it is written there, in order, from the project's root."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


def runnable(command: str) -> bool:
    """What this test leaves to others: `make test` contains it, and cloning is not the README's to prove."""
    return not command.startswith(("git clone", "cd ", "make test"))


@pytest.mark.parametrize("command", [command for command in commands() if runnable(command)])
def test_command(command: str) -> None:
    if "beauty" in command and "DIG_DATA_ROOT" not in os.environ:
        pytest.skip("the README's Beauty commands need DIG_DATA_ROOT")
    path = f"{PROJECT / '.venv' / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(command, shell=True, cwd=PROJECT, env=environment, capture_output=True, text=True)  # noqa: S602
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_python_example() -> None:
    for block in blocks("python"):
        python = PROJECT / ".venv" / "bin" / "python"
        done = subprocess.run([python, "-c", block], cwd=PROJECT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]


def test_the_readme_has_commands() -> None:
    assert any("experiment=quickstart" in command or "make quickstart" in command for command in commands())
    assert blocks("python")
