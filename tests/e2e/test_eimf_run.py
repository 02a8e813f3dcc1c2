"""EIMF from data to metrics on a small shop: with and without interests in words, killed, and where it cannot be."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import polars as pl
import pytest
from support.workplace import Workplace, home_with_vectors, home_without, wait_for_checkpoint

from datamodules.leakage import SEEN_FILE
from datamodules.splits import Sequences
from dig import Recommender, load_config, run_experiment
from dig.config import UserError
from dig.engine.artifacts import Artifact, ArtifactStore
from dig.engine.pipeline import Run, _plan
from dig.engine.stage import StageContext
from dig.recommenders.eimf.stage import STAGE

SMALL = (
    "data.source=quickstart",
    "data.path=null",
    "data.shop.items=80",
    "data.shop.users=150",
    "mining.miners=[lexical]",
    "sasrec.epochs=2",
    "sasrec.hidden_size=32",
    "eimf.hidden_size=32",
    "eimf.attention_size=32",
    "eimf.epochs=4",
    "eimf.warmup_epochs=1",
    "eimf.clusters=8",
    "eimf.typical_users=4",
    "eimf.typical_batch=16",
    "eimf.batch_size=16",
    "trainer.precision=32-true",
    "trainer.checkpoint_every=1",
    "trainer.checkpoint_share=1.0",
    "trainer.log_every_n_steps=1",
    "logging.progress=false",
)
WITHOUT = ("eimf.semantic_weight=0", "eimf.alignment_weight=0")


def run(folder: Path, *overrides: str) -> Run:
    return run_experiment(load_config("eimf", [*SMALL, f"runs_dir={folder / 'runs'}", *overrides]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("eimf")
    home_with_vectors(place / "home")
    return place


@pytest.fixture(autouse=True)
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIG_HOME", str(folder / "home"))
    monkeypatch.setenv("DIG_DATA_ROOT", str(folder))


@pytest.fixture(scope="module")
def finished(folder: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIG_HOME", str(folder / "home"))
        patch.setenv("DIG_DATA_ROOT", str(folder))
        return run(folder)


def test_it_is_measured_beside_the_others(finished: Run):
    assert list(finished.metrics) == ["popularity", "item_knn", "sasrec", "eimf"]
    found = finished.metrics["eimf"]
    assert found["examples"] == 150 and 0 < found["test"]["hr@10"] <= 1
    assert "EIMF" in (finished.path / "report.html").read_text()
    logs = pl.read_csv(sorted((finished.artifacts["eimf"] / "logs").glob("*/metrics.csv"))[-1])
    for name in ("train/loss", "train/semantic", "train/alignment"):
        assert logs[name].drop_nulls().is_finite().all() and logs[name].drop_nulls().len()


def test_what_taught_is_told_and_saw_nothing_held_out(finished: Run):
    artifact = finished.artifacts["eimf"]
    typical = pl.read_parquet(artifact / "typical_users.parquet")
    chosen = json.loads((artifact / "training.json").read_text())["chosen"]
    assert chosen in ("best", "final") and len(typical) <= 32
    sequences = Sequences.load(finished.artifacts["prepare"] / "sequences")
    items = pl.read_parquet(finished.artifacts["prepare"] / "items.parquet")["item_id"]
    good = pl.read_parquet(finished.artifacts["label"] / "interests.parquet").filter(pl.col("label") == 1)
    places = {user: place for place, user in enumerate(sequences.user_ids)}
    for user, interests, shares in typical.iter_rows():
        bought = items.gather(sequences.train[places[user]])
        words = set(good.filter(pl.col("item_id").is_in(bought.implode()))["text"].str.to_lowercase())
        assert interests and set(interests) <= words  # of the training part's items alone
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1.001
    seen = pl.read_parquet(artifact / SEEN_FILE)
    assert seen["items_seen"].list.len().sum() == int(sequences.train.lengths.sum())


def test_the_run_answers(finished: Run):
    recommender = Recommender.from_run(finished.path)
    frame = pl.read_parquet(finished.path / "recommendations.parquet").filter(pl.col("stage") == "eimf")
    examples = pl.read_parquet(finished.path / "examples.parquet")
    items, _ = recommender.recommend(examples["history"].head(3).to_list(), k=10, unseen=False)
    assert items == [row[:10] for row in frame["items"].head(3).to_list()]


def test_without_weights_nothing_asks_for_interests(folder: Path):
    found = run(folder / "without", *WITHOUT)
    assert "label" not in found.artifacts and not (found.artifacts["eimf"] / "typical_users.parquet").exists()
    assert 0 < found.metrics["eimf"]["test"]["hr@10"] <= 1


def key(*overrides: str) -> str:
    return next(step.key for step in _plan(load_config("eimf", [*SMALL, *overrides])) if step.stage.name == "eimf")


def test_fingerprints_follow_what_is_used():
    assert key(*WITHOUT) == key(
        *WITHOUT, "eimf.clusters=5", "eimf.temperature=0.3", "embedding.max_tokens=9", "labels.threshold=0.9"
    )
    assert (
        len(
            {
                key(),
                key(*WITHOUT),
                key("eimf.clusters=5"),
                key("embedding.max_tokens=9"),
                key("labels.threshold=0.9"),
                key("eimf.alignment_weight=0"),
            }
        )
        == 6
    )


def context_of(finished: Run, tmp_path: Path, *overrides: str, **changed: Path) -> StageContext:
    artifacts = finished.artifacts | changed
    inputs = {name: Artifact(path, name, 0.0, cached=True) for name, path in artifacts.items()}
    return StageContext(load_config("eimf", [*SMALL, *overrides]), inputs, ArtifactStore(), tmp_path)


def test_more_clusters_than_users(finished: Run, tmp_path: Path):
    with pytest.raises(UserError, match=r"eimf\.clusters=151 is more than the \d+ users with a positive interest") as e:
        STAGE.build(context_of(finished, tmp_path, "eimf.clusters=151"), tmp_path / "work")
    assert e.value.exit_code == 2 and "\n" not in str(e.value)


def test_nobody_with_a_positive_interest(finished: Run, tmp_path: Path):
    bare = tmp_path / "label"
    shutil.copytree(finished.artifacts["label"], bare)
    interests = pl.read_parquet(bare / "interests.parquet").with_columns(label=pl.lit(0, pl.Int8))
    interests.write_parquet(bare / "interests.parquet")
    with pytest.raises(UserError, match="there are no typical users, since no user has an item with a positive"):
        STAGE.build(context_of(finished, tmp_path, label=bare), tmp_path / "work")


def test_interests_that_saw_held_out_items_are_refused(finished: Run, tmp_path: Path):
    leaky = tmp_path / "label"
    shutil.copytree(finished.artifacts["label"], leaky)
    sequences = Sequences.load(finished.artifacts["prepare"] / "sequences")
    items = pl.read_parquet(finished.artifacts["prepare"] / "items.parquet")["item_id"]
    rows = [items.gather(row).to_list() for row in sequences.rows]
    pl.DataFrame({"user_id": sequences.user_ids, "items_seen": rows}).write_parquet(leaky / SEEN_FILE)
    with pytest.raises(UserError, match="eimf: its explicit interests saw held-out items"):
        STAGE.build(context_of(finished, tmp_path, label=leaky), tmp_path / "work")


def test_killed_it_ends_with_the_same_metrics(finished: Run, folder: Path, tmp_path: Path):
    home = home_without(folder / "home", {"eimf"}, tmp_path / "home")
    workplace = Workplace(tmp_path, home, ("experiment=eimf", *SMALL, "stages=[eimf,report]", "baselines=[eimf]"))
    for kill in range(2):
        process = workplace.start()
        seen = wait_for_checkpoint(workplace, "eimf", process, newer_than=12 * kill)  # the second past the clustering
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert seen
    output = workplace.run()
    assert "eimf: resumes from the checkpoint" in output
    found = json.loads((tmp_path / "runs" / "eimf" / "latest" / "metrics.json").read_text())["eimf"]
    for part in ("valid", "test", "test_masked"):
        assert found[part] == finished.metrics["eimf"][part]
