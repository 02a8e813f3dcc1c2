"""GRPO with every kind of reward on a small shop: what each needs is there, and what is not is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from support.workplace import SMALL, tokenized_home

from datamodules.leakage import guard_artifact
from datamodules.prompts import prompt_builder
from datamodules.splits import Sequences
from dig import load_config, run_experiment
from dig.config import UserError
from dig.engine.artifacts import Artifact, ArtifactStore
from dig.engine.pipeline import Run
from dig.engine.stage import StageContext
from dig.generation.backbone import load_backbone
from dig.quantization import SemanticIds
from dig.stages.grpo import STAGE, _check_policy, _prompts

EVERYTHING = (
    "grpo.reward.similarity=0.3",
    "grpo.reward.rank=0.2",
    "grpo.reward.collaborative=0.4",
    "grpo.reward.diversity=0.1",
    "grpo.reward.novelty=0.1",
    "grpo.reward.valid=0.1",
    "grpo.reward.combine=apart",
    "grpo.objective=dapo",
    "grpo.dynamic_sampling=2",
    "grpo.reference=ema",
    "grpo.rollouts=stochastic_beam",
    "sasrec.epochs=2",
    "sasrec.scale=null",
    "sasrec.hidden_size=32",
    "grpo.max_steps=4",
    "trainer.log_every_n_steps=1",
)


def run(folder: Path, *overrides: str) -> Run:
    settings = [word for word in SMALL if not word.startswith("experiment=")]
    return run_experiment(load_config("quickstart", [*settings, f"runs_dir={folder / 'runs'}", *overrides]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rewards")
    tokenized_home(place / "home")
    return place


@pytest.fixture(autouse=True)
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIG_HOME", str(folder / "home"))


@pytest.fixture(scope="module")
def finished(folder: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIG_HOME", str(folder / "home"))
        return run(folder, *EVERYTHING)


def test_every_term_is_paid_and_told(finished: Run):
    curve = pl.read_csv(sorted((finished.artifacts["grpo"] / "logs").glob("*/metrics.csv"))[-1])
    terms = {name.removeprefix("rollout/reward_") for name in curve.columns if name.startswith("rollout/reward_")}
    assert terms == {
        "hit",
        "valid",
        "prefix",
        "interest",
        "similarity",
        "rank",
        "collaborative",
        "diversity",
        "novelty",
    }
    for name in (
        "rollout/hits",
        "rollout/frac_reward_zero_std",
        "rollout/unique_fraction",
        "train/entropy",
        "train/kl",
        "train/clip_ratio",
    ):
        assert curve[name].drop_nulls().is_finite().all() and curve[name].drop_nulls().len()
    assert curve["rollout/unique_fraction"].drop_nulls().min() == 1.0  # no rollout twice
    for term in ("similarity", "collaborative", "novelty", "diversity"):
        assert curve[f"rollout/reward_{term}"].drop_nulls().max() > 0


def test_the_report_tells_a_group(finished: Run):
    stories = [json.loads(line) for line in (finished.artifacts["grpo"] / "groups.jsonl").read_text().splitlines()]
    page = (finished.path / "report.html").read_text()
    assert "Groups of rollouts" in page and "advantage" in page
    story = stories[0]
    assert story["target"]["item"] and len(story["rollouts"]) == 4
    assert set(story["rollouts"][0]["terms"]) >= {"hit", "similarity", "collaborative"}
    for each in story["rollouts"]:
        assert each["item"] in page


def test_the_sequential_model_is_frozen_guarded_and_loads(finished: Run):
    artifact = finished.artifacts["sasrec"]
    sequences = Sequences.load(finished.artifacts["prepare"] / "sequences")
    items = pl.read_parquet(finished.artifacts["prepare"] / "items.parquet")["item_id"]
    guard_artifact("test", artifact, sequences, items)
    assert load_file(artifact / "model" / "model.safetensors")["items.weight"].shape == (80, 32)


def test_a_group_larger_than_the_catalogue_is_refused(folder: Path):
    with pytest.raises(UserError, match=r"grpo\.group_size=81 is more than the 80 items") as found:
        run(folder, "stages=[grpo]", "grpo.rollouts=beam", "grpo.group_size=81")
    assert found.value.exit_code == 2


def context_of(finished: Run, tmp_path: Path, **changed: Path) -> StageContext:
    artifacts = finished.artifacts | changed
    inputs = {name: Artifact(path, name, 0.0, cached=True) for name, path in artifacts.items()}
    return StageContext(load_config(finished.path / "config.yaml"), inputs, ArtifactStore(), tmp_path)


def test_a_policy_with_other_semantic_ids_is_refused(finished: Run, tmp_path: Path):
    other = tmp_path / "sft"
    shutil.copytree(finished.artifacts["sft"], other)
    ids = SemanticIds.load(other / "model" / "semantic_ids.parquet")
    _check_policy(context_of(finished, tmp_path), ids)
    moved = SemanticIds(ids.item_ids, ids.codes.roll(1, dims=0), ids.sizes, ids.levels)
    moved.save(other / "model" / "semantic_ids.parquet")
    with pytest.raises(UserError, match="speaks other Semantic IDs"):
        _check_policy(context_of(finished, tmp_path, sft=other), ids)


def test_items_without_positive_interests_name_the_stage(finished: Run, tmp_path: Path):
    bare = tmp_path / "label"
    shutil.copytree(finished.artifacts["label"], bare)
    quality = pl.read_parquet(bare / "quality.parquet").with_columns(quality=pl.lit(0.0, pl.Float32))
    quality.write_parquet(bare / "quality.parquet")
    with pytest.raises(UserError, match=r"grpo.reward.interest pays by the quality .* \(stages mine and label\)"):
        STAGE.build(context_of(finished, tmp_path, label=bare), tmp_path / "work")
    interests = pl.read_parquet(bare / "interests.parquet").with_columns(label=pl.lit(0))
    interests.write_parquet(bare / "interests.parquet")
    shutil.copy(finished.artifacts["label"] / "quality.parquet", bare / "quality.parquet")
    with pytest.raises(UserError, match=r"grpo\.reward\.similarity compares positive interests, and no item has any"):
        STAGE.build(context_of(finished, tmp_path, label=bare), tmp_path / "work")


def test_an_empty_prompt_set_is_said(finished: Run, tmp_path: Path):
    context = context_of(finished, tmp_path)
    ids = SemanticIds.load(finished.path / "semantic_ids.parquet")
    builder = prompt_builder(load_backbone(finished.path / "model", ids.sizes), ids, context.config.prompt)
    short = Sequences.from_lists(["u", "v"], [[0, 1, 2], [3, 4, 5]])  # one item each in the training part
    with pytest.raises(UserError, match="no prompt is left to roll out for next_item: a user needs two items"):
        _prompts(context, short, builder)


def test_the_policy_is_what_the_report_shares(finished: Run):
    shared = load_file(finished.path / "model" / "model.safetensors")
    own = load_file(finished.artifacts["grpo"] / "model" / "model.safetensors")
    assert all(torch.equal(shared[name], own[name]) for name in own)
