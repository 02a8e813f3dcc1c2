"""report: fills the run's folder: metrics, rankings, the catalogue, checkpoints, the page.

A run without the stage leaves what its stages made: configuration, catalogue, Semantic IDs, checkpoints, the model.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datamodules.fetching import named_pictures
from datamodules.splits import TEST
from dig import evaluation
from dig.config import UserError
from dig.config.explain import config_yaml
from dig.engine.artifacts import Artifact, atomic_path, link_or_copy, read_json, shown_path, write_json
from dig.engine.catalogue import Catalogue
from dig.engine.manifest import DamagedError, FileEntry, Manifest, read_manifest
from dig.engine.proof import write_proof
from dig.engine.stage import StageContext
from dig.evaluation.paired import metric_gains, paired_difference
from dig.report.data import ReportData, package_versions, provenance
from dig.report.html import render_report
from dig.stages.evaluation import MEASURED, examples_file, load_examples, recommendations_file, training_counts
from dig.stages.label import load_interests
from dig.stages.prepare import load_catalogue, load_sequences, picture_folder
from dig.stages.tokenize import load_semantic_ids

__all__ = [
    "build_report",
    "fill_run",
    "report_data",
]


_LOGGED = ("tokenize", *MEASURED)
_UNPROVEN = ("logs/", "codes.svg")
"""What nothing is computed from."""
_NOTHING = pl.DataFrame(
    schema={
        "example": pl.Int64,
        "user": pl.String,
        "target": pl.String,
        "items": pl.List(pl.String),
        "scores": pl.List(pl.Float32),
        "stage": pl.String,
    }
)
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
    files = _RunFiles(run)
    catalogue = _common_files(context, files)
    metrics = {name: _metrics(context, name, artifact) for name, artifact in evaluations.items()}
    protocols = ("test", evaluation.other_protocol("test", config.evaluation.mask_history).name)
    tables = {protocol: _rankings(protocol, evaluations) for protocol in protocols}
    for protocol, table in (*tables.items(), ("valid", _rankings("valid", evaluations))):
        files.table(recommendations_file(protocol), table)
    for stale in {"test_masked", "test_unmasked"} - set(protocols):
        (run / recommendations_file(stale)).unlink(missing_ok=True)
    if {"sft", "grpo"} <= metrics.keys():
        metrics["grpo"]["over_sft"] = _over(tables["test"], "sft", "grpo", config.evaluation.ks)
    for part in ("test", "valid"):
        files.table(examples_file(part), load_examples(context, part))
    _share_artifacts(context, files)
    files.json("metrics.json", metrics)
    files.json("versions.json", package_versions())
    _write_text(run / "report.html", render_report(report_data(context, metrics, states, tables)))
    write_proof(run, files.entries, catalogue)
    return metrics


def fill_run(context: StageContext, complete: bool) -> None:
    """Writes what a run without a report has, so that its folder holds what it seems to, and answers.

    What an earlier report of the same configuration left there stays.

    Args:
        context: the finished artifacts of the configuration.
        complete: whether these are all there are, so that the folder may hold no checkpoint of another stage.
    """
    files = _RunFiles(context.run)
    catalogue = _common_files(context, files)
    _share_artifacts(context, files, clear=complete)
    write_proof(context.run, {**_reported(context.run, catalogue), **files.entries}, catalogue)


def _common_files(context: StageContext, files: _RunFiles) -> Catalogue:
    """Writes the configuration, the catalogue and the users."""
    context.run.mkdir(parents=True, exist_ok=True)
    files.text("config.yaml", config_yaml(context.config))
    items = load_catalogue(context)
    catalogue = Catalogue.of(items["item_id"])
    counts, buyers = training_counts(load_sequences(context), len(items))
    items = items.with_columns(train_count=pl.Series(counts), train_users=pl.Series(buyers))
    files.table("items.parquet", items, catalogue.stamp)
    files.table("users.parquet", _users(context))
    return catalogue


def _reported(run: Path, catalogue: Catalogue) -> dict[str, FileEntry]:
    """Entries of an earlier report's files that are still there as they were."""
    try:
        manifest = read_manifest(run)
    except (DamagedError, OSError):
        return {}
    if manifest.content.get("catalogue") != catalogue._asdict():
        return {}
    return {name: entry for name, entry in manifest.files.items() if manifest.size_damage(name) is None}


class _RunFiles:
    """Files of a run's folder, with the sizes and hashes that its manifest is made of.

    Args:
        run: the folder.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.entries: dict[str, FileEntry] = {}

    def text(self, name: str, text: str) -> None:
        _write_text(self.run / name, text)
        self._enter(name)

    def json(self, name: str, content: Any) -> None:
        write_json(self.run / name, content)
        self._enter(name)

    def table(self, name: str, table: pl.DataFrame, metadata: dict[str, str] | None = None) -> None:
        with atomic_path(self.run / name) as temporary:
            table.write_parquet(temporary, metadata=metadata)
        self._enter(name)

    def shared(self, artifact: Manifest, file: str, name: str) -> None:
        """A file of an artifact, which keeps the hash that the artifact was verified by."""
        link_or_copy(artifact.folder / file, self.run / name)
        if not name.startswith(_UNPROVEN):
            self.entries[name] = artifact.files[file]

    def shared_folder(self, artifact: Manifest, folder: str, target: str) -> None:
        """Makes ``target`` hold the files below a folder of an artifact, and nothing else."""
        files = [file for file in artifact.files if file.startswith(f"{folder}/")]
        if files:
            _clear(self.run / target)
        for file in files:
            self.shared(artifact, file, f"{target}/{file.removeprefix(f'{folder}/')}")

    def _enter(self, name: str) -> None:
        self.entries[name] = FileEntry.of(self.run / name)


def _metrics(context: StageContext, name: str, found: Artifact) -> dict[str, Any]:
    """What the test found, how long it took, and how long the stage did."""
    seconds = {"seconds": round(context.inputs[name].seconds, 3), "evaluation_seconds": round(found.seconds, 3)}
    asked = {"mask_history": context.config.evaluation.mask_history}
    return {**read_json(found.path / "metrics.json"), **asked, **seconds}


def _rankings(protocol: str, evaluations: Mapping[str, Artifact]) -> pl.DataFrame:
    """Those of all recommenders, one below the other."""
    name = recommendations_file(protocol)
    return pl.concat(
        [_NOTHING, *(pl.read_parquet(evaluation.path / name, glob=False) for evaluation in evaluations.values())]
    )


def _over(recommendations: pl.DataFrame, first: str, second: str, ks: list[int]) -> dict[str, dict[str, float]]:
    """How much the second is above the first on the test, a metric each, with 95 % intervals over users."""
    differences = {}
    positions = {}
    users = recommendations.filter(pl.col("stage") == first)["user"].to_numpy()
    for stage in (first, second):
        rows = recommendations.filter(pl.col("stage") == stage).select("items", "target").iter_rows()
        positions[stage] = np.array([items.index(target) if target in items else -1 for items, target in rows])
    for name in (f"{family}@{k}" for k in ks for family in ("hr", "ndcg")):
        one, other = (metric_gains(name, positions[stage]) for stage in (first, second))
        differences[name] = asdict(paired_difference(one, other, users=users))
    return differences


def _users(context: StageContext) -> pl.DataFrame:
    """Every user's items, oldest first, and how many of them at the end are tests."""
    sequences, ids = load_sequences(context), load_catalogue(context)["item_id"]
    users = pl.DataFrame({"user": sequences.user_ids}).with_row_index("row")
    items = pl.DataFrame(
        {"row": sequences.rows.owners(), "items": ids.gather(sequences.rows.flat()), "tests": sequences.parts == TEST}
    ).cast({"row": pl.UInt32})
    lists = items.group_by("row", maintain_order=True).agg(pl.col("items"), pl.col("tests").sum())
    return users.join(lists, on="row", how="left", maintain_order="left").drop("row")


def _share_artifacts(context: StageContext, files: _RunFiles, clear: bool = True) -> None:
    """Files of the artifacts that belong to a run; those of other stages are removed where ``clear`` says so."""
    run = context.run
    artifacts = {stage: _manifest(stage, artifact) for stage, artifact in context.inputs.items()}
    for stage, names in {"label": ("interests.parquet",), "tokenize": ("semantic_ids.parquet", "codes.svg")}.items():
        for name in names:
            if clear or stage in artifacts:
                (run / name).unlink(missing_ok=True)
            if stage in artifacts:
                files.shared(artifacts[stage], name, name)
    for stage in _LOGGED:
        for kind, folder in (("logs", "logs"), ("model", "checkpoints"), ("adapter", "adapters")):
            if stage in artifacts:
                files.shared_folder(artifacts[stage], kind, f"{folder}/{stage}")
            elif clear:
                _clear(run / folder / stage)
        if stage in artifacts and "training.json" in artifacts[stage].files:
            files.shared(artifacts[stage], "training.json", f"logs/{stage}/training.json")
    policies = [stage for stage in ("sft", "grpo") if stage in artifacts]
    if policies:
        files.shared_folder(artifacts[policies[-1]], "model", "model")


def _manifest(stage: str, artifact: Artifact) -> Manifest:
    try:
        return read_manifest(artifact.path, artifact.fingerprint)
    except DamagedError as error:
        raise UserError(
            f"report: the artifact of {stage}, {shown_path(artifact.path)}, changed while it was read "
            f"({error}); the same command builds it again"
        ) from None


def _clear(folder: Path) -> None:
    """Removes a folder of the run; a link in its place is removed, and what it points to stays."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


_GROUPS = 2
"""Groups of rollouts that are told of the beginning, and of the end."""


def report_data(
    context: StageContext,
    metrics: Mapping[str, Mapping[str, Any]],
    states: Sequence[Mapping[str, Any]],
    recommendations: Mapping[str, pl.DataFrame],
) -> ReportData:
    """Collects what the page shows; what a run does not have stays empty.

    Args:
        context: the stages' artifacts.
        metrics: what ``metrics.json`` holds.
        states: name, seconds and ``cached`` of each stage.
        recommendations: rankings of the test examples by protocol, of which ``test`` is shown.
    """
    config, has = context.config, context.inputs.keys()
    origin = provenance(config)
    return ReportData(
        experiment=config.experiment,
        run_id=context.run.name,
        command=origin.command or f"python -m dig.train experiment={shlex.quote(str(context.run / 'config.yaml'))}",
        config_yaml=config_yaml(config),
        parent=origin.parent,
        changes=origin.changes,
        statistics=read_json(context.file("prepare", "statistics.json")),
        stages=states,
        metrics=metrics,
        curves={stage: rows for stage in context.inputs if (rows := _curve(context.inputs[stage].path))},
        health=read_json(context.file("tokenize", "health.json")) if "tokenize" in has else {},
        ids=load_semantic_ids(context) if "tokenize" in has else None,
        labels=read_json(context.file("label", "report.json")) if "label" in has else {},
        interests=load_interests(context) if "label" in has else None,
        groups=_groups(context),
        catalogue=load_catalogue(context),
        pictures=_pictures(context),
        recommendations=recommendations.get("test"),
        examples=load_examples(context) if recommendations else None,
    )


def _pictures(context: StageContext) -> dict[str, Path]:
    """Picture files of items that are on this machine."""
    folder = picture_folder(context)
    if not folder.is_dir():
        return {}
    catalogue = load_catalogue(context)
    pictures = named_pictures(catalogue, folder)
    ids = catalogue["item_id"].to_list()
    return {ids[row]: path for row, path in zip(pictures.rows.tolist(), pictures.paths, strict=True)}


def _groups(context: StageContext) -> list[dict[str, Any]]:
    """The first and the last groups of rollouts that GRPO told of."""
    path = context.inputs["grpo"].path / "groups.jsonl" if "grpo" in context.inputs else None
    if path is None or not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    shown = lines if len(lines) <= 2 * _GROUPS else [*lines[:_GROUPS], *lines[-_GROUPS:]]
    return [json.loads(line) for line in shown]


def _curve(artifact: Path) -> list[dict[str, float]]:
    """Rows of a stage's CSV logs, those of interrupted attempts before those that continued."""
    rows: list[dict[str, float]] = []
    for path in sorted((artifact / "logs").glob("*/metrics.csv")):
        frame = pl.read_csv(path, infer_schema_length=None, glob=False)
        rows += [
            {key: float(value) for key, value in row.items() if value is not None}
            for row in frame.iter_rows(named=True)
        ]
    return rows
