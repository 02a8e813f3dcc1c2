"""What `pip install .` brings: everything that a run needs, from a folder in which there is nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PARTS = ("dig", "datamodules", "callbacks", "experiments", "sweeps")
QUIET = ("--quiet", "--disable-pip-version-check", "--no-deps")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the project's folder."""
    copy = tmp_path_factory.mktemp("project")
    for name in PARTS:
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, copy)
    pip("wheel", *QUIET, "--no-build-isolation", "--wheel-dir", str(copy / "wheels"), str(copy))
    (built,) = (copy / "wheels").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip("install", *QUIET, "--no-index", "--target", str(target), str(wheel))
    return target


def pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed), "DIG_DATA_ROOT": str(folder)}
    environment.pop("DIG_HOME", None)
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def files(*suffixes: str) -> set[str]:
    """The project's own files with these suffixes, or with any."""
    paths = (path for name in PARTS for path in (PROJECT / name).rglob("*") if path.is_file())
    return {
        path.relative_to(PROJECT).as_posix()
        for path in paths
        if "__pycache__" not in path.parts and (not suffixes or path.suffix in suffixes)
    }


def test_every_file_of_the_project_is_in_the_wheel(wheel: Path):
    """Modules, templates, prompts and word lists where they are, experiments and sweeps within the package."""
    expected = {f"dig/{name}" if name.split("/")[0] in ("experiments", "sweeps") else name for name in files()}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {"dig/experiments/quickstart.yaml", "dig/sweeps/codebook.yaml", "dig/report/templates/page.html.j2"} < names
    assert any(name.startswith("dig/interests/prompts/") for name in names)


def test_the_wheel_says_what_it_is(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        folder = next(name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        metadata = archive.read(f"{folder}/METADATA").decode()
        scripts = archive.read(f"{folder}/entry_points.txt").decode()
        assert f"{folder}/licenses/LICENSE" in archive.namelist()
    assert "License-Expression: Apache-2.0" in metadata and "Classifier: Programming Language" in metadata
    assert "Description-Content-Type: text/markdown" in metadata and "Keywords: recommender systems" in metadata
    assert "dig = dig.__main__:main" in scripts


def test_the_quickstart_starts_in_an_empty_folder(installed: Path, tmp_path: Path):
    done = run(installed, tmp_path, "-m", "dig.train", "experiment=quickstart", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "prepare" in done.stdout and done.stdout.count("to do") == 11
    assert not list(tmp_path.iterdir())


def test_the_console_script_is_the_same_command(installed: Path, tmp_path: Path):
    script = installed / "bin" / "dig"
    asked = ("train", "experiment=quickstart", "rqvae.levels=2", "--print-config")
    by_script = run(installed, tmp_path, str(script), *asked)
    assert by_script.returncode == 0, by_script.stderr
    assert by_script.stdout == run(installed, tmp_path, "-m", "dig.train", *asked[1:]).stdout
    assert run(installed, tmp_path, str(script), "--version").stdout.startswith("dig ")


def test_every_experiment_loads_as_it_does_in_the_project(installed: Path, tmp_path: Path):
    code = (
        "import json; from dig.config import list_experiments, load_config, config_to_dict\n"
        "content = {name: config_to_dict(load_config(name)) for name in list_experiments()}\n"
        "print(json.dumps(content, sort_keys=True, default=str))"
    )
    here = run(installed, tmp_path, "-c", code)
    assert here.returncode == 0, here.stderr
    names = {name.removeprefix("experiments/").removesuffix(".yaml") for name in files(".yaml") if name[:5] == "exper"}
    assert all(f'"{name}": {{' in here.stdout for name in names)
    assert here.stdout == run(PROJECT, tmp_path, "-c", code).stdout


def test_own_experiments_go_before_those_that_come_along(installed: Path, tmp_path: Path):
    own = tmp_path / "experiments"
    own.mkdir()
    (own / "mine.yaml").write_text("extends: quickstart\nseed: 7\n")
    (own / "beauty.yaml").write_text("extends: quickstart\nseed: 8\n")
    for name, seed in (("mine", 7), ("beauty", 8), ("gift_cards", 42)):
        done = run(installed, tmp_path, "-m", "dig.train", f"experiment={name}", "--print-config")
        assert done.returncode == 0 and f"\nseed: {seed}\n" in done.stdout, done.stderr
    wrong = run(installed, tmp_path, "-m", "dig.train", "experiment=quikstart")
    assert wrong.returncode == 2 and "no such experiment; did you mean quickstart?" in wrong.stderr
    assert wrong.stderr.count("\n") == 1


def test_sweeps_come_along_too(installed: Path, tmp_path: Path):
    asked = ("-m", "dig.sweep", "sweeps/codebook.yaml", "experiment=quickstart", "--dry-run")
    done = run(installed, tmp_path, *asked)
    assert done.returncode == 0 and "rqvae.codebook_size" in done.stdout, done.stderr
    wrong = run(installed, tmp_path, "-m", "dig.sweep", "sweeps/codebok.yaml")
    assert wrong.returncode == 2 and "did you mean sweeps/codebook.yaml?" in wrong.stderr
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "codebook.yaml").write_text("method: spiral\n")
    assert "'spiral' is none of" in run(installed, tmp_path, *asked).stderr
