"""The whole pipeline on a small shop: artifacts, cache, damage, kill -9 and resume, LoRA, W&B offline."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file
from support.wandb_records import recorded
from support.workplace import (
    Workplace,
    built_artifacts,
    home_with_vectors,
    home_without,
    tokenized_workplace,
    wait_for_checkpoint,
)

from datamodules.splits import Sequences
from dig import Recommender, load_config
from dig.config import UserError
from dig.engine.proof import RunProof
from dig.quantization import SemanticIds

MEASURED = ["popularity", "item_knn", "sft", "grpo"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, str]:
    folder = tmp_path_factory.mktemp("finished")
    workplace = Workplace(folder, home_with_vectors(folder / "home"))
    return workplace, workplace.run()


def test_run_folder_is_complete(finished: tuple[Workplace, str]) -> None:
    workplace, output = finished
    run = workplace.latest
    metrics = json.loads((run / "metrics.json").read_text())
    assert list(metrics) == MEASURED
    for found in metrics.values():
        accuracy = {f"{name}@{k}" for name in ("hr", "ndcg", "mrr") for k in (5, 10)}
        beyond = {
            f"{name}@10"
            for name in ("coverage", "gini", "novelty", "diversity", "popularity_lift", "invalid", "duplicates")
        } | {"memorization@5"}
        assert set(found["valid"]) == accuracy
        assert set(found["test"]) == set(found["test_masked"]) == accuracy | beyond
        assert found["seconds"] >= 0
        assert found["split"] == "leave-one-out" and found["examples"] == found["users"] == 150
        slices = found["slices"]["test"]
        for kind in ("target", "history", "one-hop"):
            parts = [each for name, each in slices.items() if name.startswith(f"{kind}: ")]
            assert all(accuracy <= set(each) <= accuracy | beyond | {"examples"} for each in parts)
            assert {"memorization@5", "coverage@10", "gini@10"} <= set.intersection(*map(set, parts))
            assert sum(each["examples"] for each in parts) == 150  # every example is in one slice of each kind
            total = sum(each["examples"] * each["hr@10"] for each in parts) / 150
            assert total == pytest.approx(found["test"]["hr@10"])
    for name in ("config.yaml", "report.html", "interests.parquet", "semantic_ids.parquet"):
        assert (run / name).stat().st_size > 0
    assert (run / "checkpoints" / "grpo" / "model.safetensors").is_file()
    assert output.strip().splitlines()[-1].startswith("run: ")
    assert output.count("150 users, 80 items") == 1
    assert "test · leave-one-out" in output and "valid · leave-one-out" in output
    for stage in ("label", "tokens", "sft", "grpo"):  # whatever derives from histories says what it saw
        assert next((workplace.folder / "home" / "artifacts" / stage).glob("*/items_seen.parquet")).is_file()


@pytest.mark.parametrize(("protocol", "file"), [("test", "recommendations"), ("test_masked", "recommendations_masked")])
def test_numbers_recompute_from_the_run_folder(finished: tuple[Workplace, str], protocol: str, file: str) -> None:
    """Ten lines of polars."""
    run, metrics = finished[0].latest, finished[0].metrics()
    frame = pl.read_parquet(run / f"{file}.parquet").join(pl.read_parquet(run / "examples.parquet"), on="example")
    frame = frame.with_columns(place=pl.int_ranges(1, pl.col("items").list.len() + 1))
    rows = (
        frame.explode("items", "place").filter(pl.col("items") == pl.col("target")).select("example", "stage", "place")
    )
    frame = frame.drop("place").join(rows, on=["example", "stage"], how="left")
    shown = frame.with_columns(items=pl.col("items").list.head(10)).explode("items").select("stage", item_id="items")
    shown = shown.join(pl.read_parquet(run / "items.parquet"), on="item_id")
    for (stage,), of in frame.group_by("stage"):
        found, place = metrics[stage][protocol], pl.col("place")
        for k in (5, 10):
            hit = (place <= k).fill_null(value=False)
            for name, gain in (("hr", 1.0), ("ndcg", 1 / (place + 1).log(2)), ("mrr", 1 / place)):
                value = pl.when(hit).then(gain).otherwise(0.0).mean()
                assert found[f"{name}@{k}"] == pytest.approx(of.select(value).item(), abs=1e-6)
                for (part,), users in of.group_by("one_hop_slice"):
                    slices = metrics[stage]["slices"][protocol]
                    assert slices[f"one-hop: {part}"][f"{name}@{k}"] == pytest.approx(
                        users.select(value).item(), abs=1e-6
                    )
        counts = shown.filter(pl.col("stage") == stage)
        assert found["coverage@10"] == pytest.approx(counts["item_id"].n_unique() / 80)
        novelty = -(counts["train_users"].clip(1) / 150).log(2).mean()
        assert found["novelty@10"] == pytest.approx(novelty, rel=1e-6)
        every = pl.read_parquet(run / "items.parquet")
        exposure = every.join(counts["item_id"].value_counts(), on="item_id", how="left")["count"].fill_null(0).sort()
        places = 2 * pl.Series(range(1, len(every) + 1)) - len(every) - 1
        assert found["gini@10"] == pytest.approx((places * exposure).sum() / (len(every) * exposure.sum()), abs=1e-6)
        bought = of.select(item_id="history").explode("item_id").join(every, on="item_id")["train_count"].mean()
        assert found["popularity_lift@10"] == pytest.approx(counts["train_count"].mean() / bought - 1, abs=1e-6)
        first = of["items"].list.head(10)
        assert found["invalid@10"] == pytest.approx(1 - first.list.len().sum() / (10 * len(of)), abs=1e-6)
        again = (first.list.len() - first.list.n_unique()).sum() / (10 * len(of))
        assert found["duplicates@10"] == pytest.approx(again, abs=1e-6)
        inside = pl.col("items").list.head(5).list.set_intersection("one_hop").list.len().mean() / 5
        assert found["memorization@5"] == pytest.approx(of.select(inside).item(), abs=1e-6)


def test_the_validation_recomputes_too_and_stops_before_the_test(finished: tuple[Workplace, str]) -> None:
    run, metrics = finished[0].latest, finished[0].metrics()
    examples = pl.read_parquet(run / "examples_valid.parquet")
    bought = dict(pl.read_parquet(run / "users.parquet").select("user", "items").rows())
    for user, history, target in examples.select("user", "history", "target").rows():
        assert [*history, target] == bought[user][:-1]
    frame = pl.read_parquet(run / "recommendations_valid.parquet")
    for (stage,), of in frame.group_by("stage"):
        places = [items.index(target) + 1 if target in items else 99 for items, target in of["items", "target"].rows()]
        for k in (5, 10):
            hits = [place for place in places if place <= k]
            assert metrics[stage]["valid"][f"hr@{k}"] == pytest.approx(len(hits) / len(examples), abs=1e-6)
            ndcg = sum(1 / math.log2(place + 1) for place in hits) / len(examples)
            assert metrics[stage]["valid"][f"ndcg@{k}"] == pytest.approx(ndcg, abs=1e-6)


def test_the_gain_over_sft_is_that_of_the_table(finished: tuple[Workplace, str]) -> None:
    metrics = finished[0].metrics()
    for name, gain in metrics["grpo"]["over_sft"].items():
        difference = metrics["grpo"]["test"][name] - metrics["sft"]["test"][name]
        assert gain["difference"] == pytest.approx(difference, abs=1e-6) and gain["low"] <= difference <= gain["high"]
    for found in metrics.values():
        for protocol, intervals in found["intervals"].items():
            assert all(
                low <= found[protocol][name] + 1e-9 and found[protocol][name] - 1e-9 <= high
                for name, (low, high) in intervals.items()
            )


def test_masked_rankings_hold_nothing_of_the_history(finished: tuple[Workplace, str]) -> None:
    run = finished[0].latest
    frame = pl.read_parquet(run / "recommendations_masked.parquet").join(
        pl.read_parquet(run / "examples.parquet"), on="example"
    )
    shared = frame.select(pl.col("items").list.set_intersection("history").list.len()).to_series()
    assert len(frame) == 150 * len(MEASURED) and shared.sum() == 0
    kept = pl.read_parquet(run / "recommendations.parquet")
    assert kept.columns == ["example", "user", "target", "items", "scores", "stage"]


def test_run_loads_as_recommender(finished: tuple[Workplace, str]) -> None:
    workplace, _ = finished
    recommender = Recommender.from_run(workplace.latest)
    frame = pl.read_parquet(workplace.latest / "recommendations.parquet").filter(pl.col("stage") == "grpo")
    sequences = Sequences.load(next((workplace.folder / "home" / "artifacts" / "prepare").glob("*/sequences")))
    ids = SemanticIds.load(workplace.latest / "semantic_ids.parquet").item_ids
    histories = [[ids[row] for row in rows[:-1]] for rows in sequences.rows[:5]]
    items, _ = recommender.recommend(histories, k=10, unseen=False)
    assert items == [list(ranked)[:10] for ranked in frame["items"].to_list()[:5]]
    assert load_config(workplace.latest / "config.yaml").data.shop.items == 80


def test_what_the_docs_show_of_a_model_runs(finished: tuple[Workplace, str], tmp_path: Path) -> None:
    """Newcomers 7 and 11: the snippets of docs/sft.md and docs/evaluation.md, and the first answers as the run does."""
    run, docs = finished[0].latest, Path(__file__).parents[2] / "docs"
    code = ""
    for text in (
        (docs / "sft.md").read_text(),
        (docs / "evaluation.md").read_text().split("## Asking a run")[1].split("\n## ")[0],
    ):
        code += "".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    assert code.count("runs/quickstart/latest") == 3
    script = tmp_path / "snippets.py"
    script.write_text(
        code.replace("runs/quickstart/latest", str(run)) + "assert items[1] and module.trie.num_items == 80\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    items, scores = Recommender.from_run(run).recommend([["I0001", "I0002"]], k=5, unseen=False)
    shown = done.stdout.splitlines()[0]
    assert shown.startswith(str(items[0]))
    assert json.loads(shown.removeprefix(str(items[0]))) == pytest.approx(scores[0].tolist(), abs=1e-4)


def test_second_run_is_cached_and_damage_is_rebuilt(finished: tuple[Workplace, str]) -> None:
    workplace, _ = finished
    before = workplace.metrics()
    output = workplace.run()
    assert output.count(" cached ") == 11
    assert workplace.metrics() == before
    damaged = next((workplace.folder / "home" / "artifacts" / "tokenize").glob("*/semantic_ids.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-7])
    output = workplace.run()
    assert "damaged" in output and output.count(" cached ") == 10
    assert workplace.metrics() == before


def test_stages_without_a_report_leave_what_they_made(tmp_path: Path) -> None:
    """Entry 9: what a folder seems to hold is what it has, at every moment, and it answers."""
    whole = tokenized_workplace(tmp_path / "whole")
    workplace = Workplace(tmp_path, home_without(whole.home, {"popularity", "item_knn"}, tmp_path / "home"))
    workplace.run("stages=[tokenize]")
    with pytest.raises(UserError) as caught:
        Recommender.from_run(workplace.latest)
    said = str(caught.value)
    assert "holds no trained stage" in said and "it has Semantic IDs, interests, a catalogue; " in said
    assert re.search(
        r"this trains one: python -m dig.train experiment=\S+config.yaml stages=\[sft,grpo,report\]$", said
    )
    output = workplace.run("stages=[sft]")
    assert re.search(r"the run has sft, not measured: python -m dig.train .* stages=\[sft,report\]", output)
    assert Recommender.from_run(workplace.latest).stage == "sft"
    workplace.run("stages=[sft,report]")
    assert list(workplace.metrics()) == ["popularity", "item_knn", "sft"]
    before = (workplace.latest / "model" / "model.safetensors").read_bytes()
    output = workplace.run("stages=[grpo]")
    run = workplace.latest
    assert "the run has sft and grpo, not measured" in output
    assert Recommender.from_run(run).stage == "grpo" and Recommender.from_run(run, "sft").stage == "sft"
    after = (run / "model" / "model.safetensors").read_bytes()
    assert after == (run / "checkpoints" / "grpo" / "model.safetensors").read_bytes()
    assert before == (run / "checkpoints" / "sft" / "model.safetensors").read_bytes()
    assert list(workplace.metrics()) == ["popularity", "item_knn", "sft"]  # the same configuration's, still true
    RunProof(run).require("metrics.json", "recommendations.parquet", "model", "checkpoints", "config.yaml")
    workplace.run("stages=[prepare]")
    assert Recommender.from_run(run).stage == "grpo"


def test_a_folder_in_which_nothing_has_ended_says_so(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(
        UserError, match=r"it is empty, as of a training that has not ended: the same dig.train command"
    ):
        Recommender.from_run(tmp_path / "run")


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_kill_in_training_resumes_to_the_same_metrics(
    stage: str, finished: tuple[Workplace, str], tmp_path: Path
) -> None:
    undisturbed, _ = finished
    workplace = tokenized_workplace(tmp_path)
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
    assert workplace.metrics() == undisturbed.metrics()


def test_checkpoint_of_another_configuration_is_refused(finished: tuple[Workplace, str], tmp_path: Path) -> None:
    workplace = tokenized_workplace(tmp_path)
    process = workplace.start()
    assert wait_for_checkpoint(workplace, "sft", process, newer_than=0)
    process.kill()
    process.wait()
    checkpoint = next((tmp_path / "home" / "artifacts" / "sft").glob("*.work/scratch/resume.ckpt"))
    refused = workplace.start("sft.learning_rate=0.5", f"sft.resume_from={checkpoint}")
    output, _ = refused.communicate(timeout=300)
    assert refused.returncode == 1
    assert "another configuration: sft.learning_rate is 0.001 there and 0.5 here" in output
    assert "Traceback" not in output


def test_two_processes_and_wandb_without_an_account(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    workplace.run(
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "trainer.strategy=ddp",
        "logging.wandb.mode=offline",
        "sft.epochs=1",
        "grpo.max_steps=2",
    )
    metrics = workplace.metrics()
    assert list(metrics) == MEASURED
    assert {found["users"] for found in metrics.values()} == {150}
    records = [*workplace.latest.glob("wandb/offline-run-*/run-*.wandb")]
    stages = sorted(path.stem.split("-")[1] for path in records)
    assert stages == ["adapt", "grpo", "label", "report", "sft", "tokenize"], "a W&B run each, of rank 0 alone"
    assert all(path.stat().st_size > 0 for path in records)
    effective = recorded(workplace.latest)["sft"][0].config["effective.sft"]
    assert (effective["world_size"], effective["batch_size"]) == (2, 2 * 16)


@pytest.mark.parametrize("collisions", ["keep", "reassign"])
def test_collisions_are_handled_as_asked(tmp_path: Path, collisions: str) -> None:
    workplace = tokenized_workplace(tmp_path)
    output = workplace.run(f"rqvae.collisions={collisions}", "rqvae.codebook_size=[12,6]", "grpo.max_steps=2")
    assert ("keep them" if collisions == "keep" else "were moved") in output
    ids = SemanticIds.load(workplace.latest / "semantic_ids.parquet")
    assert ids.duplicates == (collisions == "keep")
    frame = pl.read_parquet(workplace.latest / "recommendations.parquet").filter(pl.col("stage") == "grpo")
    lists = frame["items"].to_list()
    assert all(len(set(items)) == len(items) == 10 for items in lists), "duplicates are listed, each once"
    if collisions == "keep":
        assert ids.codes.shape[1] == 2 and len(ids.codes.unique(dim=0)) < 80
        recommended = {item for items in lists for item in items}
        firsts = {ids.item_ids[int(row)] for row in ids.find(ids.codes)}
        assert recommended - firsts, "duplicates can be recommended, too"


@pytest.mark.parametrize("codes", [0, 1])
def test_items_with_tokens_of_their_own_from_end_to_end(tmp_path: Path, codes: int) -> None:
    """Composed rows in SFT, plain ones in the export and in GRPO, the relation tasks, codes that others made."""
    ids = {f"I{item:04d}": [item % 8, item // 8 % 8, item % 3] for item in range(1, 81)}
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    workplace = tokenized_workplace(tmp_path)
    workplace.run(
        f"items.codes={codes}",
        "items.representation=composed",
        "sft.softmax=level",
        "sft.dropout=0.1",
        "sft.tasks.collaborative.share=0.5",
        "sft.tasks.semantic.share=1",
        "grpo.max_steps=2",
        "rqvae.tokenizer=imported",
        f"rqvae.imported={tmp_path / 'ids.json'}",
        "backbone.gradient_checkpointing=true",
    )
    run = workplace.latest
    assert list(workplace.metrics()) == MEASURED
    spelled, made = (
        SemanticIds.load(run / "model" / "semantic_ids.parquet"),
        SemanticIds.load(run / "semantic_ids.parquet"),
    )
    assert spelled.codes.shape[1] == codes + 1 and spelled.item_ids == made.item_ids
    assert {item: made.codes[row, :3].tolist() for row, item in enumerate(made.item_ids)} == ids
    model = load_file(run / "model" / "model.safetensors")
    assert not any("parametrizations" in name for name in model)
    recommender = Recommender.from_run(run)
    frame = pl.read_parquet(run / "recommendations.parquet").filter(pl.col("stage") == "grpo")
    sequences = Sequences.load(next((workplace.home / "artifacts" / "prepare").glob("*/sequences")))
    items, _ = recommender.ranker.rank([sequences.rows[0][:-1]], 10)
    assert [made.item_ids[row] for row in items[0].tolist()] == frame["items"][0].to_list()[:10]
