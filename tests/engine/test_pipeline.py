"""What changes which fingerprint, and which stages a wish needs."""

from __future__ import annotations

import pytest

from dig.config import UserError, load_config
from dig.engine.pipeline import _plan, _run_folder

STAGES = ["prepare", "adapt", "pictures", "mine", "label", "embed", "tokenize", "sft", "grpo"]
SIMPLE = ["popularity", "item_knn"]  # baselines that every report measures


def keys(*overrides: str) -> dict[str, str]:
    return {step.stage.name: step.key for step in _plan(load_config("quickstart", overrides))}


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("data.shop.seed=8", "prepare"),
        ("visual.adapt.epochs=3", "adapt"),
        ("mining.max_interests=3", "mine"),
        ("visual.mined_phrases=9", "mine"),
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
    assert all((before[name] != after[name]) == (first == "prepare") for name in SIMPLE)


def test_baselines_depend_on_their_own_section() -> None:
    before = keys("baselines=[popularity,item_knn,sasrec]")
    after = keys("baselines=[popularity,item_knn,sasrec]", "sasrec.layers=1", "item_knn.decay=0.5")
    assert [name for name in before if before[name] != after[name]] == ["item_knn", "sasrec"]
    assert {name: before[name] for name in keys()} == keys()  # another baseline changes nothing else


@pytest.mark.parametrize(
    "override",
    [
        "evaluation.num_beams=30",
        "evaluation.max_users=5",
        "sft.resume_from=a.ckpt",
        "trainer.checkpoint_every=3",
        "trainer.log_every_n_steps=1",
        "logging.progress=false",
        "runs_dir=elsewhere",
        "embedding.batch_size=8",
        "visual.batch_size=8",
        "visual.num_workers=2",
    ],
)
def test_a_key_that_changes_no_artifact(override: str) -> None:
    assert keys(override) == keys()


def test_the_seed_changes_what_is_random() -> None:
    before, after = keys(), keys("seed=1")
    assert [name for name in STAGES if before[name] == after[name]] == ["prepare"]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ("[tokenize]", STAGES[:7]),
        ("[prepare]", ["prepare"]),
        ("[pictures]", ["prepare", "adapt", "pictures"]),
        ("[sft,report]", [*STAGES[:7], *SIMPLE, "sft"]),
        ("[report]", ["prepare", *SIMPLE]),
        ("[item_knn]", ["prepare", "item_knn"]),
    ],
)
def test_a_stage_brings_what_it_needs(stages: str, expected: list[str]) -> None:
    assert list(keys(f"stages={stages}")) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["visual.model=null", "mining.miners=[lexical]"], ["prepare", "mine", "label", "embed", "tokenize"]),
        (["mining.miners=[lexical]", "rqvae.inputs=text"], [*STAGES[:1], *STAGES[3:7]]),
        (["mining.miners=[lexical]", "rqvae.inputs=image"], STAGES[:7]),
        (["rqvae.inputs=text"], STAGES[:7]),  # the miner of pictures needs them
    ],
)
def test_pictures_come_in_where_somebody_looks(overrides: list[str], expected: list[str]) -> None:
    assert list(keys("stages=[tokenize]", *overrides)) == expected


def test_pictures_that_nobody_looks_at_are_not_read() -> None:
    assert not {"adapt", "pictures"} & keys("mining.miners=[lexical]", "rqvae.inputs=text").keys()


def test_without_pictures_their_settings_change_nothing() -> None:
    off = ("visual.model=null", "mining.miners=[lexical]")
    assert keys(*off) == keys(*off, "visual.adapt.epochs=7", "visual.mined_phrases=3")


def test_a_baseline_that_is_left_out_is_not_asked_for_in_vain() -> None:
    with pytest.raises(UserError, match=r"stages names sasrec, which baselines=\[popularity, item_knn\] leaves out"):
        load_config("quickstart", ["stages=[sasrec,report]"])
    with pytest.raises(UserError, match=r"baselines names 'sasreq'; did you mean 'sasrec'\?"):
        load_config("quickstart", ["baselines=[sasreq]"])


def test_the_run_folder_follows_from_the_configuration() -> None:
    def folder(*overrides: str) -> str:
        return _run_folder(load_config("quickstart", overrides)).name

    assert folder() == folder("logging.progress=false") == folder("stages=[sft]")
    assert folder() != folder("evaluation.num_beams=30")
    assert folder("run_id=mine") == "mine"
