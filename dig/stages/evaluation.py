"""Measures every recommender of a run on the held-out items; each test is cached like a stage."""

from __future__ import annotations

from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

import callbacks
import datamodules
from datamodules.leakage import guard_artifact
from datamodules.splits import HeldOut, Sequences
from dig import evaluation, modules
from dig.config import RECOMMENDERS, UserError
from dig.engine.artifacts import Artifact, fingerprint, write_json
from dig.engine.catalogue import Catalogue, check_catalogue
from dig.engine.console import progress_enabled, say
from dig.engine.lazy import lightning
from dig.engine.stage import StageContext, build_alone, build_together, global_rank, select
from dig.engine.strategy import interruptible, meeting, quiet, trainer_place
from dig.evaluation.paired import bootstrap_interval
from dig.recommender import load_ranker
from dig.stages.prepare import load_catalogue, load_sequences, load_slices

__all__ = [
    "MEASURED",
    "Asked",
    "catalogue_facts",
    "evaluate_all",
    "examples_file",
    "load_examples",
    "measured",
    "recommendations_file",
    "training_counts",
    "write_evaluation",
]

_VERSION = 6
MEASURED = tuple(RECOMMENDERS)
"""Stages that leave a recommender, in the order of every table."""


def measured(context: StageContext) -> list[str]:
    """The recommenders of a run: its baselines and the policies that were trained."""
    return [
        name
        for name, spec in RECOMMENDERS.items()
        if name in context.inputs and (not spec.baseline or name in context.config.baselines)
    ]


def recommendations_file(protocol: str) -> str:
    """Name of the rankings of a protocol: `test` is the main one, `valid` the validation's."""
    return f"recommendations_{protocol}.parquet".replace("_test", "", 1)


def examples_file(part: str) -> str:
    """Name of the examples of a part, `test` or `valid`."""
    return f"examples_{part}.parquet".replace("_test", "", 1)


def evaluate_all(context: StageContext) -> dict[str, Artifact]:
    """Measures what is not measured yet, on all ranks together; called by every rank."""
    examples = _protocol(context)
    return {name: _evaluation(context, name, examples) for name in measured(context)}


def load_examples(context: StageContext, part: str = "test") -> pl.DataFrame:
    """The examples of a part: ``example, user, target, history, one_hop`` and a column a way to slice."""
    return pl.read_parquet(_protocol(context).path / examples_file(part), glob=False)


def _protocol(context: StageContext) -> Artifact:
    """What all recommenders are asked, worked out once: one-hop candidates and slices of the held-out examples."""
    config = context.config.evaluation
    origin = {
        "version": 2,
        "max_users": config.max_users,
        "valid_users": config.valid_users,
        "prepare": context.inputs["prepare"].fingerprint,
    }
    key = fingerprint(origin)
    return build_alone(context, "examples", key, partial(_write_examples, context), origin)


def _write_examples(context: StageContext, folder: Path) -> None:
    sequences, catalogue = load_sequences(context), load_catalogue(context)
    successors = evaluation.successor_counts(sequences.train, len(catalogue))
    for part in ("test", "valid"):
        examples, chosen = _chosen(context, part)
        candidates = evaluation.one_hop_candidates(successors, examples.histories)
        labels = load_slices(context).filter(pl.col("part") == part)[chosen].drop("part")
        table = _examples_table(examples, candidates, labels, sequences, catalogue["item_id"])
        table.write_parquet(folder / examples_file(part))
        if part == "test":
            np.save(folder / "candidates.npy", candidates.astype(np.int32), allow_pickle=False)


def _examples_table(
    examples: HeldOut, candidates: np.ndarray, labels: pl.DataFrame, sequences: Sequences, ids: pl.Series
) -> pl.DataFrame:
    benefits = evaluation.beneficiaries(candidates, examples.targets)
    return pl.DataFrame(
        {
            "example": np.arange(len(examples)),
            "user": sequences.user_ids.gather(examples.users),
            "target": ids.gather(examples.targets),
            "history": _lists(ids, examples.histories.flat(), examples.histories.lengths),
            "one_hop": _lists(ids, candidates[candidates >= 0], (candidates >= 0).sum(axis=1)),
            **labels.to_dict(),
            "one_hop_slice": np.where(benefits, "beneficiary", "non-beneficiary"),
        }
    )


def _chosen(context: StageContext, part: str) -> tuple[HeldOut, np.ndarray]:
    """The examples of a part that are asked, and their places among all of it."""
    config, everything = context.config.evaluation, load_sequences(context).held_out(part)
    chosen = everything.sample({"test": config.max_users, "valid": config.valid_users}[part], seed=0)
    return everything.take(chosen), chosen


def _evaluation(context: StageContext, name: str, examples: Artifact) -> Artifact:
    origin = {
        "version": _VERSION,
        "evaluation": select(context.config, "evaluation"),
        "inputs": {stage: context.inputs[stage].fingerprint for stage in ("prepare", name)}
        | {"examples": examples.fingerprint},
        "prompt": select(context.config, "prompt") if not RECOMMENDERS[name].baseline else None,
        "name": name,
    }
    key = fingerprint(origin)
    build = partial(_measure, context, name, examples)
    return build_together(context, "evaluation", key, build, origin)


def _measure(context: StageContext, name: str, examples: Artifact, folder: Path) -> None:
    config, sequences, catalogue = context.config.evaluation, load_sequences(context), load_catalogue(context)
    guard_artifact(f"report: {name}", context.inputs[name].path, sequences, catalogue["item_id"])
    check_catalogue(context.file(name, "model"), Catalogue.of(catalogue["item_id"]), "the stage prepare")
    ranker = load_ranker(name, context.file(name, "model"), context.config, "cpu")
    main = evaluation.Protocol("test", config.mask_history)
    facts = catalogue_facts(sequences, catalogue)
    valid, _ = _chosen(context, "valid")
    unknown = np.empty((len(valid), 0), np.int64)
    validation = evaluation.Protocol("valid", config.mask_history)
    protocols = [main, evaluation.other_protocol("test", config.mask_history)]
    test = evaluation.Harness(ranker, protocols, config.ks, config.num_beams, facts)
    parts = [
        (evaluation.Harness(ranker, [validation], config.ks, config.num_beams), valid, unknown),
        (test, _chosen(context, "test")[0], np.load(examples.path / "candidates.npy")),
    ]
    evaluations: dict[str, evaluation.Evaluation] = {}
    for harness, held_out, candidates in parts:
        module = modules.EvaluationModule(harness, len(held_out))
        data = datamodules.ExampleDataModule(datamodules.Examples(held_out, candidates), config.batch_size)
        title = f"{name}: {len(held_out):,} examples of {harness.protocols[0].name}"
        _test(context, module, data, title)
        try:
            with quiet(), meeting(title):
                evaluations |= module.collect()
        except evaluation.NotANumberError as error:
            raise UserError(f"report: {title}: {error}; its stage has to be trained again") from error
    if global_rank() == 0:
        asked = Asked(
            pl.read_parquet(examples.path / examples_file("test"), glob=False), parts[-1][1], parts[-1][2], facts
        )
        write_evaluation(folder, name, sequences.split, config.ks, catalogue["item_id"], asked, evaluations)
        validated = pl.read_parquet(examples.path / examples_file("valid"), glob=False)
        _write_rankings(folder, name, "valid", validated, catalogue["item_id"], evaluations["valid"])


def _test(
    context: StageContext, module: modules.EvaluationModule, data: datamodules.ExampleDataModule, title: str
) -> None:
    config = context.config.trainer
    if progress_enabled() and global_rank() == 0:
        say(title)
    with quiet(), meeting(title):
        trainer = lightning.Trainer(
            **trainer_place(config),
            logger=False,
            callbacks=[callbacks.Preemption(), *callbacks.progress_bar(title)],
            use_distributed_sampler=False,
            enable_progress_bar=progress_enabled(),
            enable_model_summary=False,
            enable_checkpointing=False,
            default_root_dir=context.run,
        )
        with interruptible():
            trainer.test(module, datamodule=data, verbose=False)


def training_counts(sequences: Sequences, items: int) -> tuple[np.ndarray, np.ndarray]:
    """How often the training part holds each item, and how many users have it: (items,) each."""
    flat = sequences.train.flat().astype(np.int64)
    pairs = np.unique(sequences.train.owners() * items + flat)
    return np.bincount(flat, minlength=items), np.bincount(pairs % items, minlength=items)


def catalogue_facts(sequences: Sequences, catalogue: pl.DataFrame) -> evaluation.CatalogueFacts:
    """What metrics beyond accuracy know of items."""
    counts, buyers = training_counts(sequences, len(catalogue))
    categories = catalogue["categories"].to_list() if "categories" in catalogue.columns else None
    return evaluation.CatalogueFacts.of(counts, int((sequences.train.lengths > 0).sum()), categories, buyers)


class Asked(NamedTuple):
    """The tests of a run.

    Attributes:
        table: ``example``, ``user``, ``target`` and a column a way to slice.
        held_out: the same as catalogue rows.
        candidates: (examples, any) one-hop candidates, -1 where there are fewer.
        facts: of the catalogue.
    """

    table: pl.DataFrame
    held_out: HeldOut
    candidates: np.ndarray
    facts: evaluation.CatalogueFacts


def write_evaluation(
    folder: Path,
    name: str,
    split: str,
    ks: list[int],
    ids: pl.Series,
    asked: Asked,
    found: dict[str, evaluation.Evaluation],
) -> None:
    """Writes ``metrics.json``, with slices and intervals, and the rankings of each protocol.

    Args:
        folder: where.
        name: of the recommender.
        split: name of the split.
        ks: cut-offs.
        ids: (items,) the catalogue's ids.
        asked: the tests.
        found: what was found by protocol; of ``valid`` the metrics alone are written.
    """
    labels, users = asked.table.select(pl.col("^.*_slice$")), asked.table["user"].to_numpy()
    targets = torch.from_numpy(asked.held_out.targets.astype(np.int64))
    metrics: dict[str, Any] = {"split": split, "users": asked.table["user"].n_unique(), "examples": len(asked.table)}
    metrics |= {part: each.metrics for part, each in found.items()} | {"intervals": {}, "slices": {}}
    for protocol, each in found.items():
        if protocol == "valid":
            continue
        positions = evaluation.target_positions(each.ranked, targets).numpy()
        beyond = partial(_beyond, each.ranked, asked, ks)
        metrics["slices"][protocol] = evaluation.slice_metrics(positions, labels, ks, beyond)
        metrics["intervals"][protocol] = {
            key: astuple(bootstrap_interval(values, users=users))[1:]
            for key, values in evaluation.accuracy_gains(positions, ks).items()
        }
        _write_rankings(folder, name, protocol, asked.table, ids, each)
    write_json(folder / "metrics.json", metrics)


def _write_rankings(
    folder: Path, name: str, protocol: str, examples: pl.DataFrame, ids: pl.Series, found: evaluation.Evaluation
) -> None:
    """Items and scores, a row per example."""
    mask = found.ranked >= 0
    lengths = mask.sum(dim=1).numpy()
    examples.select("example", "user", "target").with_columns(
        items=_lists(ids, found.ranked[mask].numpy(), lengths),
        scores=_lists(None, found.scores[mask].numpy(), lengths),
        stage=pl.lit(name),
    ).write_parquet(folder / recommendations_file(protocol))


def _beyond(ranked: Tensor, asked: Asked, ks: list[int], rows: np.ndarray) -> dict[str, float]:
    """What is measured beyond accuracy of some of the tests."""
    histories, candidates = asked.held_out.histories.take(rows), asked.candidates[rows]
    return evaluation.beyond_accuracy(ranked[torch.from_numpy(rows)], histories, candidates, ks, asked.facts)


def _lists(ids: pl.Series | None, values: np.ndarray, lengths: np.ndarray) -> pl.Series:
    """Values, or the ids that they are rows of, cut into lists of the given lengths."""
    flat = pl.Series(values) if ids is None else ids.gather(values)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    lists = pl.DataFrame({"owner": owners, "value": flat}).group_by("owner", maintain_order=True).agg("value")
    every = pl.DataFrame({"owner": np.arange(len(lengths))}).join(lists, on="owner", how="left", maintain_order="left")
    return every["value"].fill_null(pl.Series([[]], dtype=pl.List(flat.dtype)))
