"""What the page of a run shows, collected from its stages' artifacts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from datamodules.fetching import named_pictures
from dig.config.explain import config_yaml
from dig.engine.artifacts import read_json
from dig.engine.stage import StageContext
from dig.report.data import ReportData, provenance
from dig.stages.evaluation import load_examples
from dig.stages.label import load_interests
from dig.stages.prepare import load_catalogue, picture_folder
from dig.stages.tokenize import load_semantic_ids

__all__ = ["report_data"]

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
    found = named_pictures(catalogue, folder)
    ids = catalogue["item_id"].to_list()
    return {ids[row]: path for row, path in zip(found.rows.tolist(), found.paths, strict=True)}


def _groups(context: StageContext) -> list[dict[str, Any]]:
    """The first and the last groups of rollouts that GRPO told of."""
    path = context.inputs["grpo"].path / "groups.jsonl" if "grpo" in context.inputs else None
    if path is None or not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    told = lines if len(lines) <= 2 * _GROUPS else [*lines[:_GROUPS], *lines[-_GROUPS:]]
    return [json.loads(line) for line in told]


def _curve(artifact: Path) -> list[dict[str, float]]:
    """Rows of a stage's CSV logs, those of interrupted attempts before those that went on."""
    rows: list[dict[str, float]] = []
    for path in sorted((artifact / "logs").glob("*/metrics.csv")):
        frame = pl.read_csv(path, infer_schema_length=None, glob=False)
        rows += [
            {key: float(value) for key, value in row.items() if value is not None}
            for row in frame.iter_rows(named=True)
        ]
    return rows
