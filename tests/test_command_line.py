"""``dig COMMAND``: the same as ``python -m dig.COMMAND``, quick to start, and one line for an unknown command."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dig
from dig.__main__ import COMMANDS, main

PAGE = (Path(__file__).parents[1] / "docs" / "commands.md").read_text(encoding="utf-8")
HEAVY = ["torch", "polars", "lightning", "transformers", "omegaconf", "rich", "optuna"]


def run(*arguments: str, folder: Path, module: str = "dig") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(dig.__file__).parents[1]), "DIG_HOME": str(folder / "home")}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("arguments", [["--help"], ["--no-such-option"], ["no-such-thing"]])
def test_each_command_is_the_module_of_that_name(
    command: str,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Help, exit codes and errors are those of `python -m dig.COMMAND`, to the letter."""
    monkeypatch.chdir(tmp_path)
    module = import_module(COMMANDS[command][0])
    code, output = main([command, *arguments]), capsys.readouterr()
    assert (module.main(arguments), capsys.readouterr()) == (code, output)
    assert code == (0 if arguments == ["--help"] else 2), output.err
    assert output.err.count("\n") == (0 if arguments == ["--help"] else 1), output.err


@pytest.mark.parametrize("command", ["data", "interests"])
def test_a_process_ends_alike_by_both_names(command: str, tmp_path: Path):
    by_name = run(command, "--no-such-option", folder=tmp_path)
    by_module = run("--no-such-option", folder=tmp_path, module=f"dig.{command}")
    assert by_name.returncode == by_module.returncode == 2 and by_name.stderr == by_module.stderr != ""


def test_ctrl_c_is_one_line_from_the_first_import_of_the_console_script():
    code = "import sys, signal; sys.argv[0] = '/somewhere/bin/dig'; import dig, os; os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("asked", [[], ["--help"], ["-h"]])
def test_every_help_says_how_a_command_is_used(command: str, asked: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([command, *asked]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: dig {command} ") and "Exit codes: 0 done" in text
    assert all(
        len(line) <= 120 for line in text.partition("Keys and their defaults")[0].splitlines() if "," not in line
    )


@pytest.mark.parametrize("asked", [[], ["--help"], ["-h"]])
def test_without_a_command_all_are_listed(asked: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(asked) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text and sentence in text for name, (_, sentence) in COMMANDS.items())


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dig {dig.__version__}\n"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trian", "trian: no such command; did you mean train?"),
        ("recomend", "did you mean recommend?"),
        ("--versoin", "--versoin: no such command"),
        ("experiment=quickstart", "no such command"),
        ("", "no such command"),
        ("x\x1b[31m", "no such command"),
    ],
)
def test_an_unknown_command_is_one_line(word: str, said: str, capsys: pytest.CaptureFixture[str]):
    assert main([word]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1 and "\x1b" not in error


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_nothing_heavy_is_imported_before_the_command_is_known(arguments: list[str]):
    code = f"import sys; from dig.__main__ import main; main({arguments}); sys.stderr.write(repr(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ast.literal_eval(done.stderr)).isdisjoint([*HEAVY, "argparse"])


def test_a_command_imports_its_own_module_alone():
    code = "import sys; from dig.__main__ import main; main(['compare', '--help'])"
    code += "; sys.stderr.write(repr(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stderr))
    assert loaded.isdisjoint(["torch", "polars", "dig.train", "dig.recommend", "dig.sweep"])


def test_the_page_has_every_command_and_what_options_mean_everywhere(capsys: pytest.CaptureFixture[str]):
    assert all(f"| `dig {command}` |" in PAGE for command in COMMANDS)
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
    helps = capsys.readouterr().out
    for option in ("--out", "--json", "--runs", "--dry-run"):
        assert f"| `{option}` |" in PAGE and f"\n  {option}" in helps, option


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
def test_the_pages_programs_direct_what_is_said(block: str, tmp_path: Path):
    """Each is run as it stands, before a line and a warning; the one that runs an experiment with a small shop."""
    small = ["data.shop.users=60", "data.shop.items=80", "stages=[popularity]", f"runs_dir={tmp_path / 'runs'}"]
    program = block.replace('load_config("quickstart")', f'load_config("quickstart", {small!r})')
    speak = "\nfrom dig.engine.console import say, warn\nsay('a line')\nwarn('a warning')\n"
    environment = os.environ | {"PYTHONPATH": str(Path(dig.__file__).parents[1]), "DIG_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", program + speak]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)
    if "lines_to_console" in block:
        assert "\nrun: " in done.stdout and done.stderr == "a warning\n"
    elif "FileHandler" in block:
        assert (tmp_path / "dig.log").read_text() == "a line\na warning\n" and done.stdout + done.stderr == ""
    elif "basicConfig" in block:
        assert "INFO:dig." in done.stderr and "WARNING:dig." in done.stderr and done.stdout == ""
    else:
        assert done.stdout + done.stderr == ""
