"""The example package of a recommender: installed as it stands, it is found, run, measured, shown and asked."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dig.config import UserError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_recommender"
SHOP = ("experiment=quickstart", "data.shop.items=80", "data.shop.users=150", "logging.progress=false")
BOTH = "baselines=[popularity,next_purchase]"

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip installs it, offline."""
    folder = tmp_path_factory.mktemp("site")
    copy = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "own_recommender")  # a build writes beside it
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", str(folder), str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def command(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """``dig.train`` and others, in a process of its own, with the package installed or without."""
    work = tmp_path_factory.mktemp("work")

    def run(module: str, *arguments: str, installed: bool = True) -> subprocess.CompletedProcess[str]:
        path = [str(site)] * installed + [str(Path(__file__).resolve().parents[2])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "DIG_HOME": str(work / "home")}
        line = [sys.executable, "-m", f"dig.{module}", *arguments]
        return subprocess.run(line, cwd=work, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture(scope="module")
def run(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that measures it beside popularity."""
    runs = tmp_path_factory.mktemp("runs")
    done = command("train", *SHOP, BOTH, "stages=[report]", "next_purchase.smoothing=2", f"runs_dir={runs}")
    assert done.returncode == 0, done.stderr
    assert "pairs of successive purchases" in done.stdout
    return (runs / "quickstart" / "latest").resolve()


def test_it_is_measured_and_stands_in_the_report_by_name_and_colour(run: Path):
    metrics = json.loads((run / "metrics.json").read_text())
    assert list(metrics) == ["popularity", "next_purchase"]
    assert metrics["next_purchase"]["test"]["hr@10"] > metrics["popularity"]["test"]["hr@10"] > 0
    report = (run / "report.html").read_text()
    assert "Next purchase" in report
    assert '"range": ["var(--s0)", "var(--s1)"]' in report or '"range":["var(--s0)","var(--s1)"]' in report
    assert "next_purchase:\n  smoothing: 2.0\n" in (run / "config.yaml").read_text()


def test_its_answers_are_those_that_were_measured(command: Command, run: Path):
    user, items = pl.read_parquet(run / "recommendations_masked.parquet").filter(stage="next_purchase").row(0)[1:4:2]
    asked = (f"run={run}", f"user={user}", "k=5", "held_out=true", "unseen=true", "--json")
    done = command("recommend", *asked)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["stage"] == "next_purchase"  # the last of the run
    assert [each["item"] for each in answer["recommendations"]] == items[:5]


def test_runs_with_it_are_compared(command: Command, run: Path):
    done = command("compare", f"{run}:popularity", f"{run}:next_purchase", "--metrics", "hr@10")
    assert done.returncode == 0, done.stderr
    assert "next_purchase" in done.stdout and "popularity" in done.stdout


def test_without_the_package_the_run_opens_with_one_warning(command: Command, run: Path):
    done = command("recommend", f"run={run}", "stage=popularity", "users=all", "out=all.csv", installed=False)
    assert done.returncode == 0 and done.stderr.count("\n") == 1, done.stderr
    assert "recommenders of packages that are not installed here: next_purchase; left out" in done.stderr
    asked = command("recommend", f"run={run}", "stage=next_purchase", "users=all", "out=all.csv", installed=False)
    assert asked.returncode == 2 and "next_purchase is of a package that is not installed here" in asked.stderr


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("next_purchase.smoothng=3", "next_purchase.smoothng: unknown key; did you mean next_purchase.smoothing?"),
        ("next_purchase.smoothing=-1", "next_purchase.smoothing must be above 0, it is -1.0"),
        ("next_purchase.smoothing=[1]", "next_purchase.smoothing=…: a value of the wrong type"),
        ("baselines=[next_purchas]", "baselines names 'next_purchas'; did you mean 'next_purchase'?"),
    ],
)
def test_its_settings_are_held_to_its_schema(command: Command, override: str, told: str):
    done = command("train", *SHOP, override, "--print-config")
    assert done.returncode == 2 and done.stderr.startswith(f"error: {told}") and done.stderr.count("\n") == 1


def test_installing_it_changes_no_run_that_does_not_measure_it(command: Command):
    """What is printed is what is kept of a run and what its folder is named by."""
    with_it, without = (command("train", *SHOP, "--print-config", installed=each) for each in (True, False))
    assert with_it.returncode == 0 and with_it.stdout == without.stdout and "next_purchase" not in with_it.stdout
    assert "next_purchase.smoothing=5.0" in command("train", "--help").stdout


def test_the_page_shows_the_package_as_it_is():
    page = (EXAMPLE.parents[1] / "docs" / "recommenders.md").read_text()
    for language, file in (("toml", "pyproject.toml"), ("python", "next_purchase.py")):
        (block,) = re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)
        shown = [line for line in block.splitlines() if line.strip()]
        source = (EXAMPLE / file).read_text().splitlines()
        assert len(shown) > 1 and [line for line in shown if line not in source] == []


def test_its_scores_are_the_smoothed_frequencies(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from datamodules.histories import Histories

    monkeypatch.syspath_prepend(site)
    from next_purchase import NextPurchase, NextPurchaseConfig

    train = Histories.from_lists([[0, 1, 2], [0, 1], [0, 3], [2]])
    model = NextPurchase.fit(train, 5, NextPurchaseConfig(smoothing=2.0))
    popularity = np.array([3, 2, 2, 1, 0]) / 8
    after_0 = (np.array([0, 2, 0, 1, 0]) + 2 * popularity) / 5
    after_2 = popularity  # nobody bought anything after it
    model.save(tmp_path)
    for each in (model, NextPurchase.load(tmp_path)):
        found = each.scores([np.array([2, 0]), np.array([2]), np.array([], dtype=np.int64)]).exp().numpy()
        np.testing.assert_allclose(found, [after_0, after_2, popularity], rtol=1e-5, atol=1e-20)


def test_a_damaged_file_is_refused(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from safetensors.numpy import save_file

    monkeypatch.syspath_prepend(site)
    from next_purchase import NextPurchase

    rows = np.array([0, 9])
    save_file(
        {"before": rows, "after": rows, "times": rows, "counts": np.array([1, 1]), "mu": np.array([1.0])},
        tmp_path / "transitions.safetensors",
    )
    with pytest.raises(UserError, match="its pairs do not fit its items"):
        NextPurchase.load(tmp_path)
