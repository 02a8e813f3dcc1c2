"""What changes which fingerprint, and which stages a wish needs."""

from __future__ import annotations

import pytest

from dig.config import load_config
from dig.pipeline import _plan, _run_folder

STAGES = ["prepare", "mine", "label", "embed", "tokenize", "sft", "grpo"]


def keys(*overrides: str) -> dict[str, str]:
    return {step.stage.name: step.key for step in _plan(load_config("quickstart", overrides))}


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("data.shop.seed=8", "prepare"),
        ("mining.max_interests=3", "mine"),
        ("labels.threshold=0.6", "label"),
        ("embedding.interests=none", "embed"),
        ("rqvae.codebook_size=16", "tokenize"),
        ("prompt.max_history=9", "sft"),
        ("sft.epochs=2", "sft"),
        ("backbone.config.hidden_size=64", "sft"),
        ("evaluation.valid_users=9", "sft"),
        ("grpo.reward.interest=0", "grpo"),
    ],
)
def test_a_key_changes_its_stage_and_what_follows(override: str, first: str) -> None:
    before, after = keys(), keys(override)
    assert [name for name in STAGES if before[name] != after[name]] == STAGES[STAGES.index(first) :]


@pytest.mark.parametrize(
    "override",
    ["evaluation.num_beams=30", "evaluation.max_users=5", "sft.resume_from=a.ckpt", "trainer.checkpoint_every=3",
     "trainer.log_every=1", "logging.progress=false", "runs_dir=elsewhere", "embedding.batch_size=8"],
)  # fmt: skip
def test_a_key_that_changes_no_artifact(override: str) -> None:
    assert keys(override) == keys()


def test_the_seed_changes_what_is_random() -> None:
    before, after = keys(), keys("seed=1")
    assert [name for name in STAGES if before[name] == after[name]] == ["prepare", "mine"]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ("[tokenize]", ["prepare", "mine", "label", "embed", "tokenize"]),
        ("[prepare]", ["prepare"]),
        ("[sft,report]", ["prepare", "mine", "label", "embed", "tokenize", "sft"]),
        ("[report]", ["prepare", "mine", "label"]),
    ],
)
def test_a_stage_brings_what_it_needs(stages: str, expected: list[str]) -> None:
    assert list(keys(f"stages={stages}")) == expected


def test_the_run_folder_follows_from_the_configuration() -> None:
    def folder(*overrides: str) -> str:
        return _run_folder(load_config("quickstart", overrides)).name

    assert folder() == folder("logging.progress=false") == folder("stages=[sft]")
    assert folder() != folder("evaluation.num_beams=30")
    assert folder("run_id=mine") == "mine"
