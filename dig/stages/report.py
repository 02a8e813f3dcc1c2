"""report: fills the run's folder: metrics, rankings, the catalogue, checkpoints, the page."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datamodules.splits import TEST
from dig.artifacts import Artifact, atomic_path, link_or_copy, read_json, write_json
from dig.config.explain import config_yaml
from dig.evaluation.harness import other_protocol
from dig.evaluation.paired import metric_gains, paired_difference
from dig.records import package_versions
from dig.report.html import render_report
from dig.stages.base import StageContext
from dig.stages.evaluation import MEASURED, examples_file, load_examples, recommendations_file, training_counts
from dig.stages.prepare import load_catalogue, load_sequences
from dig.stages.report_data import report_data

__all__ = ["build_report"]

_LOGGED = ("tokenize", *MEASURED)
_NOTHING = pl.DataFrame(schema={
    "example": pl.Int64, "user": pl.String, "target": pl.String, "items": pl.List(pl.String),
    "scores": pl.List(pl.Float32), "stage": pl.String,
})  # fmt: skip
"""Rankings of a run without a recommender."""


def build_report(
    context: StageContext, states: list[dict[str, Any]], evaluations: Mapping[str, Artifact]
) -> dict[str, Any]:
    """Writes the run folder and returns what ``metrics.json`` holds.

    Args:
        context: the stages' artifacts.
        states: name, seconds and ``cached`` of each stage, for the report.
        evaluations: the test of each recommender, :func:`~dig.stages.evaluation.evaluate_all`.
    """
    run, config = context.run, context.config
    run.mkdir(parents=True, exist_ok=True)
    _write_text(run / "config.yaml", config_yaml(config))
    metrics = {name: _metrics(context, name, found) for name, found in evaluations.items()}
    protocols = ("test", other_protocol("test", config.evaluation.mask_history).name)
    tables = {protocol: _rankings(protocol, evaluations) for protocol in protocols}
    for protocol, table in (*tables.items(), ("valid", _rankings("valid", evaluations))):
        _write_table(table, run / recommendations_file(protocol))
    for stale in {"test_masked", "test_unmasked"} - set(protocols):
        (run / recommendations_file(stale)).unlink(missing_ok=True)
    if {"sft", "grpo"} <= metrics.keys():
        metrics["grpo"]["over_sft"] = _over(tables["test"], "sft", "grpo", config.evaluation.ks)
    for part in ("test", "valid"):
        _write_table(load_examples(context, part), run / examples_file(part))
    counts, buyers = training_counts(load_sequences(context), len(load_catalogue(context)))
    items = load_catalogue(context).with_columns(train_count=pl.Series(counts), train_users=pl.Series(buyers))
    _write_table(items, run / "items.parquet")
    _write_table(_users(context), run / "users.parquet")
    _share_artifacts(context)
    write_json(run / "metrics.json", metrics)
    write_json(run / "versions.json", package_versions())
    _write_text(run / "report.html", render_report(report_data(context, metrics, states, tables)))
    return metrics


def _metrics(context: StageContext, name: str, found: Artifact) -> dict[str, Any]:
    """What the test found, how long it took, and how long the stage did."""
    seconds = {"seconds": round(context.inputs[name].seconds, 3), "evaluation_seconds": round(found.seconds, 3)}
    asked = {"mask_history": context.config.evaluation.mask_history}
    return {**read_json(found.path / "metrics.json"), **asked, **seconds}


def _rankings(protocol: str, evaluations: Mapping[str, Artifact]) -> pl.DataFrame:
    """Those of all recommenders, one below the other."""
    name = recommendations_file(protocol)
    return pl.concat([_NOTHING, *(pl.read_parquet(found.path / name) for found in evaluations.values())])


def _over(recommendations: pl.DataFrame, first: str, second: str, ks: list[int]) -> dict[str, dict[str, float]]:
    """How much the second is above the first on the test, a metric each, with 95 % intervals over users."""
    found = {}
    positions = {}
    users = recommendations.filter(pl.col("stage") == first)["user"].to_numpy()
    for stage in (first, second):
        rows = recommendations.filter(pl.col("stage") == stage).select("items", "target").iter_rows()
        positions[stage] = np.array([items.index(target) if target in items else -1 for items, target in rows])
    for name in (f"{family}@{k}" for k in ks for family in ("hr", "ndcg")):
        one, other = (metric_gains(name, positions[stage]) for stage in (first, second))
        found[name] = asdict(paired_difference(one, other, users=users))
    return found


def _users(context: StageContext) -> pl.DataFrame:
    """Every user's items, oldest first, and how many of them at the end are tests."""
    sequences, ids = load_sequences(context), load_catalogue(context)["item_id"]
    users = pl.DataFrame({"user": sequences.user_ids}).with_row_index("row")
    items = pl.DataFrame({"row": sequences.rows.owners(), "items": ids.gather(sequences.rows.flat()),
                          "tests": sequences.parts == TEST}).cast({"row": pl.UInt32})  # fmt: skip
    lists = items.group_by("row", maintain_order=True).agg(pl.col("items"), pl.col("tests").sum())
    return users.join(lists, on="row", how="left", maintain_order="left").drop("row")


def _share_artifacts(context: StageContext) -> None:
    """Files of the artifacts that belong to a run."""
    run = context.run
    for stage, names in {"label": ("interests.parquet",), "tokenize": ("semantic_ids.parquet", "codes.svg")}.items():
        for name in names:
            (run / name).unlink(missing_ok=True)
            if stage in context.inputs:
                link_or_copy(context.file(stage, name), run / name)
    for stage in _LOGGED:
        for kind, folder in (("logs", "logs"), ("model", "checkpoints"), ("adapter", "adapters")):
            if stage in context.inputs:
                _share_folder(context.inputs[stage].path / kind, run / folder / stage)
            else:
                shutil.rmtree(run / folder / stage, ignore_errors=True)
        if stage in context.inputs and (chosen := context.file(stage, "training.json")).is_file():
            link_or_copy(chosen, run / "logs" / stage / chosen.name)
    policies = [stage for stage in ("sft", "grpo") if stage in context.inputs]
    if policies:
        _share_folder(context.inputs[policies[-1]].path / "model", run / "model")


def _share_folder(source: Path, target: Path) -> None:
    """Makes ``target`` hold the files of ``source`` and nothing else."""
    if not source.is_dir():
        return
    shutil.rmtree(target, ignore_errors=True)
    for path in source.rglob("*"):
        if path.is_file():
            link_or_copy(path, target / path.relative_to(source))


def _write_table(table: pl.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.write_parquet(temporary)


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
