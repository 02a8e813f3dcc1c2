"""A run without an account: its records hold all that our own logs and tables hold, and `wandb sync` sends them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from support.wandb_records import Recorded, recorded
from support.wandb_server import KEY, WandbServer, wandb_server
from support.workplace import Workplace, home_with_vectors, tokenized_workplace, wait_for_checkpoint

OFFLINE = (
    "logging.wandb.mode=offline",
    "logging.wandb.tags=[small,test]",
    "logging.wandb.notes=how it goes",
    "logging.wandb.samples=7",
    "logging.wandb.log_model=true",
    "grpo.max_steps=8",
    "trainer.log_every_n_steps=1",
)
CANARIES = {
    "HF_TOKEN": "hf_canaryHUB0123456789",
    "SHOP_PASSWORD": "canaryPASSWORD77",
    "https_proxy": "http://canaryUSER:canaryPROXY99@127.0.0.1:9",
}
STAGES = ["adapt", "grpo", "label", "report", "sft", "tokenize"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A finished run; the environment holds a key that has to stay there."""
    folder = tmp_path_factory.mktemp("offline")
    (folder / "person").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", KEY)
        for name, canary in CANARIES.items():
            patch.setenv(name, canary)
        patch.setenv("HOME", str(folder / "person"))
        place = Workplace(folder, home_with_vectors(folder / "home"))
        output = place.run(*OFFLINE)
    assert output.splitlines()[-1].startswith("run: ")
    assert output.count("W&B: recorded offline; `wandb sync ") == 1 and KEY not in output
    return place


@pytest.fixture(scope="module")
def runs(workplace: Workplace) -> dict[str, Recorded]:
    found = recorded(workplace.latest)
    assert sorted(found) == STAGES and all(len(attempts) == 1 for attempts in found.values())
    return {stage: attempts[0] for stage, attempts in found.items()}


def test_stages_are_a_group_and_all_ended_well(workplace: Workplace, runs: dict[str, Recorded]) -> None:
    group = f"quickstart-{workplace.latest.resolve().name}"
    for stage, run in runs.items():
        assert (run.run.run_group, run.run.display_name, run.run.project) == (group, f"quickstart-{stage}", "dig")
        assert (list(run.run.tags), run.run.notes) == (["small", "test"], "how it goes")
        assert run.exit_code == 0


def test_the_history_is_that_of_our_own_logs(workplace: Workplace, runs: dict[str, Recorded]) -> None:
    for stage in ("tokenize", "sft", "grpo"):
        ours = pl.read_csv(workplace.latest / "logs" / stage / "000" / "metrics.csv", infer_schema_length=None)
        wanted = sorted(
            _row({name: value for name, value in row.items() if name != "step"}, row["step"])
            for row in ours.iter_rows(named=True)
        )
        theirs = [row for row in runs[stage].history if "epoch" in row or any(name.startswith("lr-") for name in row)]
        found = sorted(
            _row(
                {
                    name: value
                    for name, value in row.items()
                    if not name.startswith("_") and name != "trainer/global_step"
                },
                row["trainer/global_step"],
            )
            for row in theirs
        )
        assert _merged(found) == _merged(wanted), stage
        assert len(_merged(wanted)) > 5
        assert [row["_step"] for row in runs[stage].history] == list(range(len(runs[stage].history)))


def _row(values: dict[str, Any], step: int) -> tuple[int, list[tuple[str, float]]]:
    kept = sorted((name, round(float(value), 5)) for name, value in values.items() if value is not None)
    return step, kept


def _merged(rows: list[tuple[int, list[tuple[str, float]]]]) -> dict[int, dict[str, set[float]]]:
    """The values of each metric at each step; Lightning's CSV logger joins the rows of a step, W&B's does not."""
    found: dict[int, dict[str, set[float]]] = {}
    for step, values in rows:
        for name, value in values:
            found.setdefault(step, {}).setdefault(name, set()).add(value)
    return found


def test_the_configuration_is_the_resolved_one_with_effective_values(
    workplace: Workplace, runs: dict[str, Recorded]
) -> None:
    written = yaml.safe_load((workplace.latest / "config.yaml").read_text())
    for run in runs.values():
        assert {name: run.config[name] for name in written} == written
    effective = runs["sft"].config["effective.sft"]
    assert (effective["world_size"], effective["batch_size"]) == (1, 16)
    assert effective["learning_rate"] == pytest.approx(written["sft"]["learning_rate"])
    assert runs["grpo"].config["effective.grpo"]["batch_size"] == 32


def test_the_summary_is_metrics_json(workplace: Workplace, runs: dict[str, Recorded]) -> None:
    metrics = json.loads((workplace.latest / "metrics.json").read_text())
    for stage, found in metrics.items():
        for part in ("valid", "test", "test_masked"):
            for name, value in found[part].items():
                assert runs["report"].summary[f"{stage}/{part}/{name}"] == pytest.approx(value)
    health = json.loads(next((workplace.home / "artifacts" / "tokenize").glob("*/health.json")).read_text())
    assert runs["tokenize"].summary["health/collision_rate"] == health["collision_rate"]
    assert runs["sft"].summary["training/valid/ndcg@10"] == runs["report"].summary["sft/valid/ndcg@10"]


def test_tables_hold_metrics_slices_and_recommendations_in_words(
    workplace: Workplace, runs: dict[str, Recorded]
) -> None:
    report = runs["report"]
    metrics = json.loads((workplace.latest / "metrics.json").read_text())
    table = report.table("results/metrics")
    rows = {tuple(row[:3]): row[3:] for row in table["data"]}
    low, high = metrics["sft"]["intervals"]["test"]["ndcg@10"]
    assert rows["sft", "test", "ndcg@10"] == pytest.approx([metrics["sft"]["test"]["ndcg@10"], low, high])
    assert rows["sft", "valid", "ndcg@10"][1:] == [None, None]
    slices = {tuple(row[:4]): row[4] for row in report.table("results/slices")["data"]}
    name, values = next(iter(metrics["grpo"]["slices"]["test"].items()))
    assert slices["grpo", "test", name, "hr@10"] == values["hr@10"]
    told = report.table("results/recommendations")
    assert told["columns"] == ["example", "stage", "history", "target", "place of the target", "top items"]
    answers = pl.read_parquet(workplace.latest / "recommendations.parquet")
    titles = dict(pl.read_parquet(workplace.latest / "items.parquet").select("item_id", "title").iter_rows())
    users = set(answers["user"])
    assert 4 * 4 <= len(told["data"]) <= 4 * 7
    for example, stage, _, target, place, top in told["data"]:
        row = answers.filter(pl.col("example") == example, pl.col("stage") == stage).row(0, named=True)
        assert target == titles[row["target"]]
        assert place == (row["items"].index(row["target"]) + 1 if row["target"] in row["items"] else None)
        assert [line.split(". ", 1)[1].rsplit(" (", 1)[0] for line in top.split("\n")] == [
            titles[item] for item in row["items"]
        ]
    assert not any(user in json.dumps(told) for user in users), "tables name nobody"
    assert report.table("results/recommendations")["data"] == told["data"]
    assert runs["grpo"].table("rollout/groups")["data"], "groups of rollouts are told, too"


def test_plots_are_in_the_records(workplace: Workplace, runs: dict[str, Recorded]) -> None:
    for stage, name, path in (
        ("tokenize", "codes", workplace.latest / "codes.svg"),
        ("report", "results/report", workplace.latest / "report.html"),
    ):
        [file] = [each for each in runs[stage].files if each.startswith(f"media/html/{name}_")]
        assert (runs[stage].path.parent / "files" / file).read_text() == path.read_text()


def test_artifacts_know_what_they_are_made_from_and_lie_beside_the_run(
    workplace: Workplace, runs: dict[str, Recorded]
) -> None:
    makers = {
        "adapt": "model",
        "label": "interests",
        "tokenize": "semantic-ids",
        "sft": "model",
        "grpo": "model",
        "report": "results",
    }
    made = {stage: runs[stage].artifact(kind) for stage, kind in makers.items()}
    uses = {stage: {each.name for each in run.artifacts if each.use_after_commit} for stage, run in runs.items()}
    assert uses == {
        "adapt": set(),
        "label": {"quickstart-adapt"},
        "tokenize": {"quickstart-adapt", "quickstart-interests"},
        "sft": {"quickstart-semantic-ids"},
        "grpo": {"quickstart-interests", "quickstart-semantic-ids", "quickstart-sft"},
        "report": {each.name for stage, each in made.items() if stage != "report"},
    }
    used = runs["sft"].artifact("semantic-ids", used=True)
    assert (used.digest, used.name) == (made["tokenize"].digest, "quickstart-semantic-ids")
    assert runs["grpo"].artifact("model", used=True).digest == made["sft"].digest
    files = {each.path for each in made["report"].manifest.contents}
    assert {"metrics.json", "recommendations.parquet", "recommendations_masked.parquet", "report.html"} <= files
    for run in runs.values():
        for artifact in run.artifacts:
            for entry in artifact.manifest.contents:
                path = Path(entry.local_path)
                assert path.is_relative_to(workplace.latest.resolve()), "nothing waits in the home folder"
                digest = hashlib.md5(path.read_bytes()).digest()  # noqa: S324 - it is W&B's
                assert base64.b64encode(digest).decode() == entry.digest and path.stat().st_size == entry.size
    ids = next(iter(made["tokenize"].manifest.contents))
    assert Path(ids.local_path).read_bytes() == (workplace.latest / "semantic_ids.parquet").read_bytes()


def test_the_key_is_in_nothing_that_was_written(workplace: Workplace) -> None:
    files = [path for path in workplace.folder.rglob("*") if path.is_file()]
    assert len(files) > 50
    wanted = [each.encode() for each in (KEY, *CANARIES.values(), "canaryPROXY99")]  # Guard 7: the page and tables, too
    assert not [path for path in files if any(each in path.read_bytes() for each in wanted)]


def test_the_home_folder_is_needed_for_nothing(workplace: Workplace) -> None:
    kept = [path for path in (workplace.folder / "person").rglob("*") if path.is_file()]
    assert not [path for path in kept if "artifacts" in path.parts and path.stat().st_size], kept


def sync(folder: Path, server: WandbServer, home: Path) -> str:
    """`wandb sync` of an experiment's W&B folder."""
    environment = {
        **os.environ,
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": KEY,
        "HOME": str(home),
        "WANDB_ERROR_REPORTING": "false",
    }
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_wandb_sync_sends_everything(workplace: Workplace, runs: dict[str, Recorded], tmp_path: Path) -> None:
    with wandb_server() as server:
        sync(workplace.latest / "wandb", server, tmp_path)
        assert len(server.runs) == len(STAGES)
        for run in runs.values():
            sent = server.runs[run.run.run_id]
            assert [_known(json.loads(line)) for line in sent.history] == [_known(_nested(row)) for row in run.history]
            assert sent.exit_code == 0
            assert {each["groupName"] for each in sent.upserts} - {None} == {run.run.run_group}
            names = {each["artifactCollectionName"] for each in sent.made}
            assert names == {each.name for each in run.artifacts if not each.use_after_commit}
            used = {f"{each.name}@{each.digest}" for each in run.artifacts if each.use_after_commit}
            assert set(sent.used) == used
        ids = f"quickstart-semantic-ids@{runs['tokenize'].artifact('semantic-ids').digest}"
        assert ids in server.runs[runs["sft"].run.run_id].used


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """Without the addresses that W&B gives tables of its own when they are sent."""
    return {name: value for name, value in row.items() if not isinstance(value, dict)}


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in row.items()
        if not any(name.startswith(table) for table in ("rollout/groups/", "results/", "codes/"))
    }


def test_an_interrupted_stage_goes_on_in_its_wandb_run_and_sync_sends_all_attempts(tmp_path: Path) -> None:
    workplace = tokenized_workplace(tmp_path)
    settings = (*OFFLINE, "stages=[sft]", "sft.epochs=16", "sft.patience=50")
    for newer_than in (45, 0):  # enough for W&B to have written, and not
        process = workplace.start(*settings)
        assert wait_for_checkpoint(workplace, "sft", process, newer_than=newer_than)
        process.kill()
        process.wait()
    output = workplace.run(*settings)
    attempts = recorded(workplace.latest)["sft"]
    assert len({attempt.run.run_id for attempt in attempts}) == 1 and len(attempts) >= 2, output
    assert [attempt.exit_code for attempt in attempts] == [*[None] * (len(attempts) - 1), 0]
    rows = [row for attempt in attempts for row in attempt.history]
    paths = (workplace.home / "artifacts/sft").glob("*/logs/*/*.csv")
    logs = [pl.read_csv(path, infer_schema_length=None) for path in paths]
    for name in ("train/loss", "valid/ndcg@10", "train/gradient_norm"):
        kept = [row for log in logs if name in log.columns for row in log.drop_nulls(name).iter_rows(named=True)]
        ours = {(row["step"], round(row[name], 5)) for row in kept}
        theirs = {(row["trainer/global_step"], round(row[name], 5)) for row in rows if name in row}
        assert theirs == ours, name
    steps = {row["trainer/global_step"] for row in rows if "train/loss" in row}
    # A checkpoint is taken before the row of its own step is logged, so that a kill between both loses that row.
    assert len(set(range(max(steps) + 1)) - steps) <= 2 and max(steps) > 100
    with wandb_server() as server:
        sync(workplace.latest / "wandb", server, tmp_path)
        sent = server.runs[attempts[0].run.run_id]
        assert [json.loads(line)["trainer/global_step"] for line in sent.history] == [
            row["trainer/global_step"] for row in rows
        ]
        assert [json.loads(line)["_step"] for line in sent.history] == list(range(len(rows)))
        assert sent.exit_code == 0
