"""IIRG, its base and its controls from data to the comparison on a small shop; the same over a language model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from support import tiny
from support.workplace import SMALL, home_with_vectors

from datamodules.mixture import TokenArrays
from datamodules.splits import Sequences
from dig import compare, load_config, run_experiment
from dig.engine.pipeline import Run
from dig.generation.vocabulary import TASK_TOKENS

NAMES = ("iirg", "ablations/next_item_only", "ablations/random_relations")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    place = tmp_path_factory.mktemp("iirg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIG_HOME", str(home_with_vectors(place / "home")))
        patch.setenv("DIG_DATA_ROOT", str(place))
        yield place


def run(folder: Path, name: str, *more: str) -> Run:
    settings = [
        *SMALL[1:],
        "data.source=quickstart",
        "mining.miners=[lexical]",
        "mining.imports=[]",
        "rqvae.info_nce_weight=0",
        "sft.epochs=2",
        "evaluation.valid_users=50",
        f"runs_dir={folder / 'runs'}",
    ]
    return run_experiment(load_config(name, [*settings, *more]))


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, Run]:
    return {name.rpartition("/")[2]: run(folder, name) for name in NAMES}


def test_each_runs_to_its_report_on_the_same_items(runs: dict[str, Run]):
    assert all("sft" in each.metrics and (each.path / "report.html").is_file() for each in runs.values())
    for stage in ("prepare", "embed", "tokenize"):
        assert len({each.artifacts[stage] for each in runs.values()}) == 1
    assert "relations" not in runs["next_item_only"].artifacts
    assert runs["iirg"].artifacts["relations"] != runs["random_relations"].artifacts["relations"]
    assert len({each.artifacts["sft"] for each in runs.values()}) == 3


def test_the_samples_name_the_first_five_neighbours(folder: Path, runs: dict[str, Run]):
    """Compact: a token of the task, the item's codes, and those of its neighbours, each neighbour an answer."""
    tables = load_file(runs["iirg"].artifacts["relations"] / "relations.safetensors")
    ids = pl.read_parquet(runs["iirg"].path / "semantic_ids.parquet")
    vocabulary = json.loads((runs["iirg"].path / "model" / "tokenizer.json").read_text())["model"]["vocab"]
    words = {number: word for word, number in vocabulary.items()}
    codes = [[f"<{'abcd'[level]}_{code}>" for level, code in enumerate(row)] for row in ids["codes"].to_list()]
    for task in ("collaborative", "semantic"):
        named = tables[task][:, :5]
        matching = 0
        for place in (folder / "home" / "artifacts" / "tokens").glob("*/tokens.json"):
            if json.loads(place.read_text())["task"] != task:
                continue
            samples = TokenArrays(place.parent).take(np.arange(80))
            told = [[words[token] for token in row] for row in (samples.tokens[sample] for sample in range(80))]
            assert all(row[0] == TASK_TOKENS[task] for row in told)
            expected = [
                [TASK_TOKENS[task], *codes[item], *(code for other in named[item] for code in codes[other])]
                for item in range(80)
            ]
            matching += told == expected
            assert (samples.responses == 5).all()
        assert matching == 1  # the other arrays are those of random neighbours


def test_no_relation_comes_from_a_held_out_item(runs: dict[str, Run]):
    folders = runs["iirg"].artifacts
    sequences = Sequences.load(folders["prepare"] / "sequences")
    seen = pl.read_parquet(folders["relations"] / "items_seen.parquet")
    assert len(seen["items_seen"].explode()) == len(sequences.train.flat()) == len(sequences.items) - 2 * len(sequences)


def test_the_comparison_shows_both_kinds_of_users(folder: Path, runs: dict[str, Run], tmp_path: Path):
    out = tmp_path / "table.csv"
    names = [f"{each.path}:sft" for each in runs.values()]
    assert (
        compare.main(
            [
                *names,
                "--metrics",
                "hr@5",
                "--against",
                "next_item_only/sft",
                "--protocol",
                "unmasked",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    rows = list(csv.DictReader(out.open()))
    found = {(row["row"], row["slice"]): row for row in rows}
    assert {name for name, _ in found} == {"iirg/sft", "next_item_only/sft", "random_relations/sft"}
    for name, each in runs.items():
        frame = pl.read_parquet(each.path / "recommendations.parquet").filter(pl.col("stage") == "sft")
        frame = frame.join(pl.read_parquet(each.path / "examples.parquet"), on="example")
        hit = pl.col("items").list.head(5).list.contains(pl.col("target"))
        for slice_ in ("", "beneficiary", "non-beneficiary"):
            users = frame if not slice_ else frame.filter(pl.col("one_hop_slice") == slice_)
            row = found[f"{name}/sft", slice_]
            assert int(row["n"]) == len(users) > 0
            assert float(row["value"]) == pytest.approx(users.select(hit.mean()).item())
            metrics = each.metrics["sft"]
            measured = metrics["test"] if not slice_ else metrics["slices"]["test"][f"one-hop: {slice_}"]
            assert measured["hr@5"] == pytest.approx(float(row["value"]), abs=1e-6)
        assert "Memorization ratio" in (each.path / "report.html").read_text()


def test_the_three_tasks_over_a_language_model(folder: Path, runs: dict[str, Run], tmp_path: Path):
    """The same file with another backbone: the same three tasks and no other, now in words."""
    model = tiny.pretrained_folder(tmp_path / "pretrained")
    found = run(
        folder,
        "ablations/iirg_llm",
        f"backbone.pretrained={model}",
        "backbone.config={}",
        "sft.max_steps=3",
        "backbone.lora.rank=2",
        "prompt.max_history=6",
        "evaluation.max_users=20",
        "evaluation.valid_users=10",
    )
    assert "hr@5" in found.metrics["sft"]["test"]
    assert found.artifacts["relations"] == runs["iirg"].artifacts["relations"]
    written = [
        json.loads(place.read_text()) for place in (folder / "home" / "artifacts" / "tokens").glob("*/tokens.json")
    ]
    assert {each["task"] for each in written} == {"next_item", "collaborative", "semantic"}
