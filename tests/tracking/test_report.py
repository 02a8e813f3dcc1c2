"""Tables of a run: numbers as they are, texts from outside cut and plain."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import polars as pl
import pytest
from support import preloaded
from support.finished_run import measured, write_run
from support.wandb_records import Recorded, recorded

from dig.tracking.report import metric_rows, recommendation_rows, slice_rows, summary_values

NASTY = "<script>alert(1)</script>\x1b[31m\n\u202e" + "long " * 100


@pytest.fixture
def run(tmp_path: Path) -> Path:
    items = [f"i{number}" for number in range(30)]
    titles = [NASTY, None, *(f"Title {number}" for number in range(2, 30))]
    pl.DataFrame({"item_id": items, "title": titles}).write_parquet(tmp_path / "items.parquet")
    pl.DataFrame(
        {"example": range(20), "user": [f"user-{number}" for number in range(20)], "history": [items[:15]] * 19 + [[]]}
    ).write_parquet(tmp_path / "examples.parquet")
    frames = [
        pl.DataFrame(
            {
                "example": range(20),
                "user": [f"user-{number}" for number in range(20)],
                "target": ["i2"] * 20,
                "items": [items[first : first + 12]] * 20,
                "scores": [[1.0 - place / 7 for place in range(12)]] * 20,
                "stage": [stage] * 20,
            }
        )
        for stage, first in (("sft", 0), ("grpo", 5))
    ]
    pl.concat(frames).write_parquet(tmp_path / "recommendations.parquet")
    return tmp_path


def test_recommendations_are_told_in_words(run: Path) -> None:
    found = recommendation_rows(run, samples=5)
    assert [row[:2] for row in found.rows[:4]] == [[0, "sft"], [0, "grpo"], [4, "sft"], [4, "grpo"]]
    assert len(found.rows) == 2 * 5
    _, _, history, target, place, top = found.rows[0]
    assert history.split(" → ") == [f"Title {number}" for number in range(5, 15)]
    assert (target, place, found.rows[1][4]) == ("Title 2", 3, None)
    lines = top.split("\n")
    assert len(lines) == 10 and lines[1:3] == ["2. i1 (0.8571)", "3. Title 2 (0.7143)"]
    assert lines[0].startswith("1. <script>alert(1)</script>[31m long ") and len(lines[0]) < 100
    assert not any(char in top for char in "\x1b\u202e")


def test_as_many_tests_as_asked_and_no_ids_of_users(run: Path) -> None:
    assert recommendation_rows(run, samples=0).rows == []
    assert len(recommendation_rows(run, samples=1000).rows) == 40
    assert not any("user" in str(row) for row in recommendation_rows(run, samples=1000).rows)


def test_metrics_with_intervals_and_slices() -> None:
    metrics = {"sft": measured(0.1), "popularity": measured(0.05, masks=True)}
    rows = metric_rows(metrics).rows
    assert ["sft", "test", "hr@5", 0.1, pytest.approx(0.09), pytest.approx(0.11)] in rows
    assert ["popularity", "test_unmasked", "coverage@10", 0.25, None, None] in rows
    assert ["sft", "test", "target: cold", "examples", 5] in slice_rows(metrics).rows
    summary = summary_values(metrics)
    assert summary["sft/test/hr@5"] == 0.1 and summary["sft/split"] == "leave-one-out"
    assert not any("slices" in name or "intervals" in name for name in summary)


def test_a_run_without_recommenders() -> None:
    assert metric_rows({}).rows == slice_rows({}).rows == [] and summary_values({}) == {}


_PROGRAM = """
import json, sys, wandb
from pathlib import Path
from dig.config import load_config
from dig.tracking import Tracking

mine = wandb.init(mode="offline", dir=sys.argv[1], id="mine", settings=wandb.Settings(silent=True))
for name in ("one", "two", "two"):
    run = Path(sys.argv[1]) / name
    config = load_config("quickstart", ["logging.wandb.mode=offline", *sys.argv[2:]])
    with Tracking(config, run) as tracking:
        tracking.report(json.loads((run / "metrics.json").read_text()))
assert wandb.run is mine
mine.log({"still": 1})
mine.finish()
"""


def report(folder: Path, *overrides: str) -> dict[str, list[Recorded]]:
    """Reports run `one` once and run `two` twice, in one process that has a W&B run of its own."""
    for name in ("one", "two"):
        run = write_run(folder / name, experiment="quickstart")
        (run / "report.html").write_text("<p>page</p>")
        pl.DataFrame({"item_id": ["i"], "title": ["Pot"]}).write_parquet(run / "items.parquet")
        pl.DataFrame({"example": [0], "history": [["i"]]}).write_parquet(run / "examples.parquet")
        pl.DataFrame(
            {
                "example": [0],
                "user": ["somebody"],
                "target": ["i"],
                "items": [["i"]],
                "scores": [[0.5]],
                "stage": ["sft"],
            }
        ).write_parquet(run / "recommendations.parquet")
    home = folder / "person"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "WANDB_ERROR_REPORTING": "false"}
    command = [sys.executable, "-c", _PROGRAM, str(folder), *overrides]
    done = preloaded.run(command, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout
    [mine] = folder.glob("wandb/offline-run-*/run-mine.wandb")
    assert [row["still"] for row in Recorded(mine).history] == [1] and Recorded(mine).exit_code == 0
    return {name: recorded(folder / name)["report"] for name in ("one", "two")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Recorded]]:
    return report(tmp_path_factory.mktemp("reports"))


def test_runs_of_a_process_are_apart_and_a_run_found_again_is_the_same(runs: dict[str, list[Recorded]]) -> None:
    [one], [two, again] = runs["one"], runs["two"]
    assert one.run.run_id != two.run.run_id == again.run.run_id
    assert (one.run.run_group, two.run.run_group) == ("quickstart-one", "quickstart-two")
    assert {one.exit_code, two.exit_code, again.exit_code} == {0}
    assert one.summary["sft/test/hr@5"] == pytest.approx(0.15)


def test_all_is_sent(runs: dict[str, list[Recorded]]) -> None:
    [run] = runs["one"]
    assert run.table("results/recommendations")["data"] == [[0, "sft", "Pot", "Pot", 1, "1. Pot (0.5)"]]
    assert {each.type for each in run.artifacts} == {"run_table", "results"}
    assert any(path.startswith("media/html/") for path in run.files)
    assert run.environment and any(each.args for each in run.environment)


def test_only_what_is_allowed_is_sent(tmp_path: Path) -> None:
    allowed = ("logging.wandb.artifacts=false", "logging.wandb.samples=0", "logging.wandb.machine=false")
    [run] = report(tmp_path, *allowed)["one"]
    assert {each.type for each in run.artifacts} == {"run_table"}
    assert {path.split("_")[0] for path in run.files} <= {"media/table/results/metrics", "media/table/results/slices"}
    assert not any(each.args or each.program or each.host or each.git.commit for each in run.environment)
    assert run.run.host == "unnamed" and not run.run.git.commit
    content = json.dumps([run.config, run.summary]) + run.path.read_bytes().decode("latin-1")
    assert not [word for word in ("somebody", "Pot") if word in content]
