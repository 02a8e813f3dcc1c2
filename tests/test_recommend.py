"""``python -m dig.recommend``: answers of a run, for people and as JSON, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from dig import load_config
from dig.console import console
from dig.interests import Interest, to_frame
from dig.pipeline import run_experiment
from dig.recommend import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two baselines, with two interests put beside it."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIG_HOME", str(folder / "home"))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        config = load_config("quickstart", ["data.shop.users=60", "data.shop.items=80", "stages=[report]",
                                            f"runs_dir={folder / 'runs'}", "logging.progress=false"])  # fmt: skip
        path = run_experiment(config).path
    items = pl.read_parquet(path / "items.parquet")["item_id"].to_list()
    told = [Interest(item, "slow [bold]mornings", "text", 0.9, "m", 1, 0.9) for item in items]
    to_frame(told).write_parquet(path / "interests.parquet")
    return path


def user_of(run: Path) -> tuple[str, list[str]]:
    row = pl.read_parquet(run / "users.parquet").row(0, named=True)
    return row["user"], row["items"]


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main([*arguments, "json=true"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_comes_after_all_that_is_known_of_a_user(run: Path, capsys: pytest.CaptureFixture[str]):
    user, items = user_of(run)
    found = asked(capsys, f"run={run}", f"user={user}", "k=4", "unseen=true")
    assert [entry["item"] for entry in found["history"]] == items and found["stage"] == "item_knn"
    answers = found["recommendations"]
    assert [entry["rank"] for entry in answers] == [1, 2, 3, 4]
    assert not {entry["item"] for entry in answers} & set(items)
    assert answers[0]["title"] and answers[0]["reasons"][0]["interest"] == "slow [bold]mornings"
    assert set(answers[0]["reasons"][0]["because"]) <= set(items)
    assert found["interests"] == [{"text": "slow [bold]mornings", "share": 1.0}]
    assert asked(capsys, f"run={run}", f"items=[{','.join(items)}]", "k=4", "unseen=true")["recommendations"] == answers


def test_held_out_it_answers_as_the_evaluation_did(run: Path, capsys: pytest.CaptureFixture[str]):
    user, items = user_of(run)
    found = asked(capsys, f"run={run}", f"user={user}", "held_out=true", "stage=popularity")
    assert found["target"]["item"] == items[-1] and len(found["history"]) == len(items) - 1
    kept = pl.read_parquet(run / "recommendations.parquet")
    row = kept.filter((pl.col("user") == user) & (pl.col("stage") == "popularity")).row(0, named=True)
    assert [entry["item"] for entry in found["recommendations"]] == row["items"][:10]
    assert [entry["score"] for entry in found["recommendations"]] == row["scores"][:10]


def test_the_table_is_for_people(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    user, items = user_of(run)
    monkeypatch.setattr(console, "width", 200)
    assert main([f"run={run}", f"user={user}", "held_out=true", "k=80"]) == 0
    shown = capsys.readouterr().out
    assert "← bought next" in shown and "slow [bold]mornings" in shown  # text of others is no markup
    assert main([f"run={run}", f"items={items[0]}", "k=1"]) == 0
    assert "a history of your own, 1 items" in capsys.readouterr().out


def test_without_interests_it_says_so(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plain = tmp_path / "plain"
    shutil.copytree(run, plain)
    (plain / "interests.parquet").unlink()
    assert main([f"run={plain}", f"user={user_of(run)[0]}"]) == 0
    assert "no interests to explain by" in capsys.readouterr().out
    assert asked(capsys, f"run={plain}", f"user={user_of(run)[0]}")["interests"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["user=U1"], "run=FOLDER is missing"),
        (["run=RUN"], "name either user=ID or items="),
        (["run=RUN", "user=U1", "items=[I1]"], "name either"),
        (["run=RUN", "usr=U1"], "did you mean user=?"),
        (["run=RUN", "user=U1", "k=0"], "k=0 must be a whole number above 0"),
        (["run=RUN", "user=U1", "unseen=maybe"], "unseen=maybe must be true or false"),
        (["run=RUN", "items=[]"], "names no item"),
        (["run=RUN", "items=[I0001]", "held_out=true"], "needs user=ID"),
        (["run=RUN", "items=[I0001,I9999]"], "the catalogue has no item 'I9999'"),
        (["run=RUN", "user=U0000"], "; did you mean U00"),
        (["run=RUN", "items=[I0001]", "stage=grpo"], "holds no trained stage grpo; it has item_knn, popularity"),
        (["run=RUN/nowhere", "items=[I0001]"], "is no run"),
    ],
)
def test_what_it_refuses(arguments: list[str], said: str, run: Path, capsys: pytest.CaptureFixture[str]):
    assert main([argument.replace("RUN", str(run)) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_help_costs_no_torch():
    code = "import sys; from dig.recommend import main; main(['--help']); sys.exit('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "held_out" in shown.stdout


@pytest.mark.parametrize("name", ["users", "items", "interests"])
def test_a_damaged_table_is_said_in_a_line(name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    path = copy / f"{name}.parquet"
    content = path.read_bytes()
    path.unlink()  # a hard link to an artifact's file, perhaps
    path.write_bytes(content[: len(content) // 2])
    assert main([f"run={copy}", f"user={user_of(run)[0]}"]) == 1
    assert f"{name}.parquet cannot be read" in capsys.readouterr().err
