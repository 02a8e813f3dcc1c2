"""`python -m scripts.results`: from runs to the page, exit codes, and the page of this repository."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.finished_run import write_run
from support.proven import prove

from scripts.results import main

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workplace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project with the described benchmarks and published numbers of this one, and one template."""
    folder = tmp_path / "docs" / "results"
    folder.mkdir(parents=True)
    for name in ("benchmarks.yaml", "published.yaml"):
        shutil.copy(PROJECT / "docs" / "results" / name, folder / name)
    (folder / "10-shop.md.j2").write_text("{{ table('quickstart') }}\n\n{{ benchmark('sft') }}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_of_this_repository_is_what_its_records_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(PROJECT)
    assert main(["build", "--check"]) == 0, capsys.readouterr().err


def test_from_runs_to_the_page(workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    write_run(Path("runs/quickstart/a"), ["seed=1"])
    write_run(Path("runs/quickstart/b"), ["seed=2"], base=0.07)
    assert main(["add", "runs/quickstart/a", "runs/quickstart/b"]) == 0
    assert "docs/results/records/quickstart-1.json: popularity, sasrec, sft, grpo" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO('table\n{"hf_trainer_ratio": 3.25, "bf16_ratio": 2}\n'))
    assert main(["add-benchmark", "-"]) == 0
    assert json.loads(Path("docs/results/benchmarks/sft.json").read_text())["figures"]["hf_trainer_ratio"] == 3.25
    assert main(["build", "--check"]) == 1
    assert "docs/results.md: is not there" in capsys.readouterr().err
    assert main(["build"]) == 0
    page = Path("docs/results.md").read_text()
    assert "| popularity | 2 | .0600 ± .0141 |" in page and "| `hf_trainer_ratio` | 3.25 |" in page
    assert main(["build", "--check"]) == 0
    Path("docs/results.md").write_text(page.replace("3.25", "3.35"))
    capsys.readouterr()
    assert main(["build", "--check"]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: docs/results.md:") and "3.35" in error and "3.25" in error and "\n" not in error


def test_a_benchmark_from_a_file(workplace: Path, capsys: pytest.CaptureFixture[str]):
    Path("out.txt").write_text('{"trl_ratio": 30}\n')
    assert main(["add-benchmark", "out.txt"]) == 0
    assert capsys.readouterr().out.strip() == "docs/results/benchmarks/rollouts.json"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["ad", "run"], 2, "ad: no such command; did you mean add?"),
        (["build", "--chek"], 2, "--chek: no such flag; did you mean --check?"),
        (["build", "docs"], 2, "build takes no docs"),
        (["build"], 1, "10-shop.md.j2: no record quickstart"),
        (["add"], 2, "add needs a run's folder"),
        (["add", "runs/quickstart/none"], 2, "runs/quickstart/none: no such run; did you mean runs/quickstart/one?"),
        (["add", "runs/quickstart/one", "--as"], 2, "--as needs a name"),
        (["add", "runs/quickstart/one", "--as", "../x"], 2, "letters, digits"),
        (["add", "runs/quickstart/one", "runs/quickstart/one", "--as", "x"], 2, "names the record of one run"),
        (["add", "runs/quickstart/one", "runs/quickstart/one"], 2, "two of these runs are called quickstart-42"),
        (["add", "runs/quickstart/one", "--check"], 2, "--check belongs to build"),
        (["add-benchmark", "none.txt"], 2, "none.txt: cannot be read"),
        (["add-benchmark"], 2, "needs one file"),
    ],
)
def test_errors_are_one_line(
    workplace: Path, arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
):
    prove(write_run(Path("runs/quickstart/one")))
    assert main(arguments) == code
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and says in error
    assert not Path("docs/results/records").exists()


def test_another_folder_than_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["build"]) == 2
    assert "in the project's folder" in capsys.readouterr().err


def test_nothing_heavy_is_imported():
    code = "import sys; from scripts.results import main; main(['build', '--check']); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "False"


def test_help(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    assert "add-benchmark" in capsys.readouterr().out
