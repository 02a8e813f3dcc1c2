"""report: measures popularity and every trained policy on the held-out items and fills the run's folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datamodules.leakage import guard_artifact
from dig.artifacts import Artifact, atomic_path, fingerprint, read_json, write_json
from dig.baselines.popularity import Popularity
from dig.config.explain import config_yaml
from dig.evaluation import Ranker, evaluate, slice_metrics
from dig.evaluation.paired import gains, paired_difference
from dig.generation.backbone import load_backbone
from dig.interests.profiles import InterestProfiles
from dig.recommender import Recommender
from dig.report.html import ReportData, ReportExample, render_report
from dig.stages.base import StageContext, select
from dig.stages.label import load_interests
from dig.stages.policies import load_spelled_ids
from dig.stages.prepare import load_catalogue, load_sequences, load_slices
from dig.stages.tokenize import load_semantic_ids

__all__ = ["build_report"]

_VERSION = 3
_LOGGED = ("tokenize", "sft", "sequential", "grpo")
_EXAMPLES = 6
_GROUPS = 2


def build_report(context: StageContext, states: list[dict[str, Any]]) -> dict[str, Any]:
    """Writes the run folder and returns what ``metrics.json`` holds.

    Args:
        context: the stages' artifacts; of ``sft`` and ``grpo`` those that are there are measured.
        states: name, seconds and ``cached`` of each stage, for the report.
    """
    evaluations = {name: _evaluation(context, name) for name in _measured(context)}
    metrics = {name: _with_seconds(context, name, found.path) for name, found in evaluations.items()}
    run = context.run
    run.mkdir(parents=True, exist_ok=True)
    _write_text(run / "config.yaml", config_yaml(context.config))
    tables = (pl.read_parquet(found.path / "recommendations.parquet") for found in evaluations.values())
    recommendations = pl.concat(tables)
    with atomic_path(run / "recommendations.parquet") as temporary:
        recommendations.write_parquet(temporary)
    if {"sft", "grpo"} <= metrics.keys():
        metrics["grpo"]["over_sft"] = _over(recommendations, "sft", "grpo", context.config.evaluation.ks)
    _share(context.file("label", "interests.parquet"), run / "interests.parquet")
    if "tokenize" in context.inputs:
        _share(context.file("tokenize", "semantic_ids.parquet"), run / "semantic_ids.parquet")
        _share(context.file("tokenize", "codes.svg"), run / "codes.svg")
    for stage in _LOGGED:
        if stage in context.inputs:
            _share_folder(context.inputs[stage].path / "logs", run / "logs" / stage)
            _share_folder(context.inputs[stage].path / "model", run / "checkpoints" / stage)
            _share_folder(context.inputs[stage].path / "adapter", run / "adapters" / stage)
    trained = [stage for stage in _measured(context) if stage in context.inputs]
    if trained:
        _share_folder(context.inputs[trained[-1]].path / "model", run / "model")
    data = _report_data(context, metrics, states, recommendations)
    _write_text(run / "report.html", render_report(data))
    write_json(run / "metrics.json", metrics)
    return metrics


def _measured(context: StageContext) -> list[str]:
    return ["popularity", *(stage for stage in ("sft", "grpo") if stage in context.inputs)]


def _with_seconds(context: StageContext, name: str, path: Path) -> dict[str, Any]:
    seconds = context.inputs[name].seconds if name in context.inputs else 0.0
    return {**read_json(path / "metrics.json"), "seconds": round(seconds, 3)}


def _over(recommendations: pl.DataFrame, first: str, second: str, ks: list[int]) -> dict[str, dict[str, float]]:
    """How much the second is above the first on the test, a metric each, with 95 % intervals over examples."""
    ranks = {}
    for stage in (first, second):
        rows = recommendations.filter(pl.col("stage") == stage).select("items", "target").iter_rows()
        ranks[stage] = np.array([items.index(target) if target in items else -1 for items, target in rows])
    found = {}
    for k in ks:
        for name, discounted in ((f"hr@{k}", False), (f"ndcg@{k}", True)):
            one, other = (gains(ranks[stage], k, discounted) for stage in (first, second))
            found[name] = asdict(paired_difference(one, other))
    return found


def _evaluation(context: StageContext, name: str) -> Artifact:
    """The test of one recommender, cached like a stage."""
    origin = {
        "version": _VERSION,
        "evaluation": select(context.config, "evaluation"),
        "inputs": {stage: context.inputs[stage].fingerprint for stage in ("prepare", name) if stage in context.inputs},
        "prompt": select(context.config, "prompt") if name in context.inputs else None,
        "name": name,
    }
    return context.store.get("evaluation", fingerprint(origin), lambda folder: _measure(context, name, folder), origin)


def _measure(context: StageContext, name: str, folder: Path) -> None:
    config, sequences = context.config.evaluation, load_sequences(context)
    catalogue, labels = load_catalogue(context), load_slices(context)
    if name in context.inputs:
        guard_artifact(f"report: {name}", context.inputs[name].path, sequences, catalogue["item_id"])
    ranker = _rankers()[name](context)
    metrics: dict[str, Any] = {"split": sequences.split}
    for part, limit in (("valid", config.valid_users), ("test", config.max_users)):
        everything = sequences.held_out(part)
        chosen = everything.sample(limit, seed=0)
        examples = everything.take(chosen)
        found = evaluate(
            ranker,
            examples.histories,
            examples.targets,
            config.ks,
            config.num_beams,
            config.batch_size,
            config.mask_history,
            f"{name}: {part}, {len(examples):,} examples",
        )
        metrics[part] = found.metrics
    own = labels.filter(pl.col("part") == part)[chosen].drop("part")
    metrics["slices"] = {part: slice_metrics(found.ranked, examples.targets, own, config.ks)}
    metrics |= {"users": len(np.unique(examples.users)), "examples": len(examples)}
    ids = catalogue["item_id"].to_list()
    ranked = [[ids[row] for row in rows if row >= 0] for rows in found.ranked.tolist()]
    frame = {
        "user": sequences.user_ids.gather(examples.users),
        "target": [ids[target] for target in examples.targets],
        "items": ranked,
        "scores": [scores[: len(rows)] for scores, rows in zip(found.scores.tolist(), ranked, strict=True)],
        "stage": [name] * len(examples),
    }
    pl.DataFrame(frame).write_parquet(folder / "recommendations.parquet")
    write_json(folder / "metrics.json", metrics)


def _rankers() -> dict[str, Callable[[StageContext], Ranker]]:
    def policy(stage: str) -> Callable[[StageContext], Ranker]:
        def load(context: StageContext) -> Ranker:
            config, ids = context.config, load_spelled_ids(context)
            backbone = load_backbone(context.file(stage, "model"), ids.sizes)
            return Recommender(backbone, ids, config.prompt, config.evaluation.num_beams, config.evaluation.batch_size)

        return load

    def popularity(context: StageContext) -> Ranker:
        return Popularity(load_sequences(context).train, len(load_catalogue(context)))

    return {"popularity": popularity, "sft": policy("sft"), "grpo": policy("grpo")}


def _report_data(
    context: StageContext, metrics: dict[str, Any], states: list[dict[str, Any]], recommendations: pl.DataFrame
) -> ReportData:
    config = context.config
    health = read_json(context.file("tokenize", "health.json")) if "tokenize" in context.inputs else {}
    ids = load_semantic_ids(context) if "tokenize" in context.inputs else None
    return ReportData(
        experiment=config.experiment,
        run_id=context.run.name,
        config_yaml=config_yaml(config),
        statistics=read_json(context.file("prepare", "statistics.json")),
        metrics=metrics,
        stages=states,
        health=health,
        codes=(ids.codes, ids.sizes) if ids else None,
        labels=read_json(context.file("label", "report.json")),
        curves={stage: _curve(context, stage) for stage in _LOGGED if stage in context.inputs},
        examples=list(_examples(context, recommendations)),
        groups=_groups(context),
    )


def _groups(context: StageContext) -> list[dict[str, Any]]:
    """The first and the last groups of rollouts that GRPO told of."""
    path = context.inputs["grpo"].path / "groups.jsonl" if "grpo" in context.inputs else None
    if path is None or not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    told = lines if len(lines) <= 2 * _GROUPS else [*lines[:_GROUPS], *lines[-_GROUPS:]]
    return [json.loads(line) for line in told]


def _curve(context: StageContext, stage: str) -> list[dict[str, float]]:
    """Rows of a stage's CSV logs, those of interrupted attempts before those that went on."""
    rows: list[dict[str, float]] = []
    for path in sorted((context.inputs[stage].path / "logs").glob("*/metrics.csv")):
        frame = pl.read_csv(path, infer_schema_length=None)
        rows += [{key: float(value) for key, value in row.items() if value is not None}
                 for row in frame.iter_rows(named=True)]  # fmt: skip
    return rows


def _examples(context: StageContext, recommendations: pl.DataFrame) -> Iterator[ReportExample]:
    """Histories with their recommendations by the last stage: half of them hits, half misses."""
    last = _measured(context)[-1]
    if last == "popularity":
        return
    k = max(context.config.evaluation.ks)
    rows = recommendations.filter(pl.col("stage") == last).with_columns(
        hit=pl.col("items").list.head(k).list.contains(pl.col("target"))
    )
    hits, misses = rows.filter(pl.col("hit")), rows.filter(~pl.col("hit"))
    chosen = pl.concat([hits.head(_EXAMPLES // 2), misses.head(_EXAMPLES // 2)])
    catalogue, sequences, ids = load_catalogue(context), load_sequences(context), load_semantic_ids(context)
    titles = dict(zip(catalogue["item_id"], catalogue["title"].fill_null("(no title)"), strict=True))
    names = catalogue["item_id"].to_list()
    sids = {item: " ".join(str(code) for code in codes if code >= 0)
            for item, codes in zip(ids.item_ids, ids.codes.tolist(), strict=True)}  # fmt: skip
    tests = sequences.held_out("test")
    positions = {(sequences.user_ids[int(user)], names[target]): position
                 for position, (user, target) in enumerate(zip(tests.users, tests.targets, strict=True))}  # fmt: skip
    profiles = InterestProfiles(load_interests(context))
    for row in chosen.iter_rows(named=True):
        history = [names[item] for item in tests.histories[positions[row["user"], row["target"]]]][-10:]
        yield ReportExample(
            user=row["user"],
            history=[(item, titles[item]) for item in history],
            target=(row["target"], titles[row["target"]]),
            interests=[interest.text for interest in profiles.interests(history)],
            recommendations=[
                (item, titles[item], sids[item], score, item == row["target"])
                for item, score in zip(row["items"][:k], row["scores"][:k], strict=True)
            ],
        )


def _share_folder(source: Path, target: Path) -> None:
    """Makes ``target`` hold the files of ``source`` and nothing else."""
    if not source.is_dir():
        return
    shutil.rmtree(target, ignore_errors=True)
    for path in source.rglob("*"):
        if path.is_file():
            _share(path, target / path.relative_to(source))


def _share(source: Path, target: Path) -> None:
    """A hard link to an artifact's file where the file system allows it, else a copy; artifacts never change."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        target.unlink()
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
