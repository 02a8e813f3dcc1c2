"""IntRR from data to metrics: as a baseline and behind SFT and GRPO, with suffixes and duplicates, killed, resumed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import polars as pl
import pytest
from support.workplace import SMALL, Workplace, built_artifacts, home_with_vectors, home_without, wait_for_checkpoint

from dig import Recommender
from dig.generation.intrr import IntRR
from dig.quantization import SemanticIds

SETTINGS = (
    *SMALL,
    "visual.model=null",
    "mining.miners=[lexical]",
    "rqvae.codebook_size=[12,6]",
    "rqvae.collisions=suffix",
    "items.representation=one",
    "sft.dropout=0.1",
    "intrr.hidden_size=32",
    "intrr.epochs=3",
    "intrr.batch_size=16",
    "intrr.assignment.uid_size=16",
    "intrr.assignment.inner_size=24",
    "baselines=[popularity,intrr]",
    "grpo.max_steps=4",
    "sft.tasks.collaborative.share=1",
    "sft.tasks.semantic.share=0.5",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, str]:
    folder = tmp_path_factory.mktemp("intrr")
    workplace = Workplace(folder, home_with_vectors(folder / "home"), SETTINGS)
    return workplace, workplace.run("items.codes=0", "items.start=codebook")


def test_every_stage_is_measured_and_says_what_it_saw(finished: tuple[Workplace, str]):
    workplace, output = finished
    assert list(workplace.metrics()) == ["popularity", "intrr", "sft", "grpo"]
    assert (
        "sft: items.representation=one does not read items.codes=0, items.start=codebook, sft.softmax=level"
    ) in " ".join(output.split())
    artifacts = workplace.home / "artifacts"
    for stage in ("intrr", "sft", "grpo"):
        seen = pl.read_parquet(next((artifacts / stage).glob("*/items_seen.parquet")))
        assert len(seen) == 150
        assert (workplace.latest / "checkpoints" / stage / "model.safetensors").is_file()
    examples = pl.read_parquet(workplace.latest / "examples.parquet")
    joined = seen.join(examples.rename({"user": "user_id"}), on="user_id")
    trained = joined.filter(pl.col("items_seen").list.len() == pl.col("history").list.len() - 1)
    assert len(trained) == 150, "the training part is what comes before the validation item"


def test_policies_and_baseline_share_a_model_and_a_suffix_is_a_level(finished: tuple[Workplace, str]):
    run = finished[0].latest
    ids = SemanticIds.load(run / "semantic_ids.parquet")
    assert ids.codes.shape[1] == 3 and (ids.codes[:, 2] < 0).any() and (ids.codes[:, 2] >= 0).any()
    models = {stage: IntRR.load(run / "checkpoints" / stage) for stage in ("intrr", "sft", "grpo")}
    for model in models.values():
        assert len(model.assign.codebooks) == 3 and model.codes.equal(ids.codes)
    assert [models[stage].sizes.tasks for stage in ("intrr", "sft", "grpo")] == [0, 2, 2]
    sizes = models["sft"].sizes
    assert (sizes.hidden_size, sizes.layers, sizes.inner_size, sizes.max_history) == (32, 2, 64, 20)
    frame = pl.read_parquet(run / "recommendations.parquet").filter(pl.col("stage") != "popularity")
    assert all(len(set(items)) == len(items) == 10 for items in frame["items"].to_list())


@pytest.mark.parametrize("stage", ["intrr", "sft", "grpo"])
def test_a_run_answers_as_it_was_measured(finished: tuple[Workplace, str], stage: str):
    run = finished[0].latest
    frame = pl.read_parquet(run / "recommendations.parquet").filter(pl.col("stage") == stage)
    histories = pl.read_parquet(run / "examples.parquet").sort("example")["history"].to_list()[:5]
    items, _ = Recommender.from_run(run, stage).recommend(histories, k=10, unseen=False)
    assert items == [list(ranked)[:10] for ranked in frame.sort("example")["items"].to_list()[:5]]


def before(finished: tuple[Workplace, str], folder: Path, *kept: str) -> Workplace:
    """A workplace in which all is done up to the trainings, and of these what is kept."""
    left = {"intrr", "tokens", "sft", "grpo"} - set(kept)
    return Workplace(folder, home_without(finished[0].home, left, folder / "home"), SETTINGS)


@pytest.mark.parametrize("stage", ["intrr", "sft"])
def test_killed_in_training_it_resumes_to_the_same_metrics(stage: str, finished: tuple[Workplace, str], tmp_path: Path):
    workplace = before(finished, tmp_path, *({"intrr"} - {stage}))
    for kill in range(2):
        process = workplace.start()
        seen = wait_for_checkpoint(workplace, stage, process, newer_than=kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert seen
    earlier = built_artifacts(workplace)
    output = workplace.run()
    assert f"{stage}: resumes from the checkpoint" in output
    assert built_artifacts(workplace).items() >= earlier.items()
    assert workplace.metrics() == finished[0].metrics(), "and the other one's spelling has no say"


def test_two_processes_and_duplicates(finished: tuple[Workplace, str], tmp_path: Path):
    workplace = before(finished, tmp_path)
    workplace.run(
        "rqvae.collisions=keep",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "trainer.strategy=fsdp",
        "grpo.max_steps=2",
        "intrr.epochs=1",
        "sft.epochs=1",
    )
    ids = SemanticIds.load(workplace.latest / "semantic_ids.parquet")
    assert ids.duplicates and ids.codes.shape[1] == 2
    frame = pl.read_parquet(workplace.latest / "recommendations.parquet").filter(pl.col("stage") == "grpo")
    lists = frame["items"].to_list()
    assert len(lists) == 150 and all(len(set(items)) == len(items) == 10 for items in lists)
    firsts = {ids.item_ids[int(row)] for row in ids.find(ids.codes)}
    assert {item for items in lists for item in items} - firsts, "duplicates are recommended, too"


def test_codes_that_others_made_have_no_codebooks_to_start_at(finished: tuple[Workplace, str], tmp_path: Path):
    (tmp_path / "ids.json").write_text(json.dumps({f"I{item:04d}": [item % 8, item // 8] for item in range(1, 81)}))
    workplace = before(finished, tmp_path)
    imported = ("rqvae.tokenizer=imported", f"rqvae.imported={tmp_path / 'ids.json'}", "rqvae.codebook_size=[8,16]")
    refused = workplace.start(*imported, "stages=[intrr]")
    output, _ = refused.communicate(timeout=300)
    assert refused.returncode == 2 and "Traceback" not in output
    assert "intrr.assignment.start=codebook: the Semantic IDs of this tokenizer come without codebooks" in " ".join(
        output.split()
    )
    workplace.run(*imported, "stages=[intrr]", "intrr.assignment.start=random")
