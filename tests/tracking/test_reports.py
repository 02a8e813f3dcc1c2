"""The report's W&B run: several in a process, beside one of the calling program, and only as much as is allowed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import polars as pl
import pytest
from support import preloaded
from support.finished_run import write_run
from support.wandb_records import Recorded, recorded

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
