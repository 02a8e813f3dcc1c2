"""EIMF: steps of its training beside SASRec's of equal width, depth, dropout and batch, on Beauty's training part
(``DIG_DATA_ROOT``), in float32 on the CPU; both learn the same targets in the same windows. They take turns, the first
steps of a turn are not counted, and of a system's turns the median counts. Interests in words are made up, of the sizes
that Beauty's have. ``--users N`` takes the first users alone, to try it out.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning
import numpy as np
import polars as pl
import torch
from lightning.pytorch.callbacks import Callback

from datamodules.item_sequences import ItemSequences
from datamodules.preparation import Prepared, prepare
from datamodules.sources import read_source
from datamodules.splits import Sequences
from dig.config import load_config
from dig.config.schema import EvaluationConfig
from dig.engine.console import console
from dig.engine.training import quiet
from dig.interests.interest import mined_frame
from dig.interests.profiles import ExplicitInterests
from dig.recommenders.eimf import EIMFConfig
from dig.recommenders.eimf.explicit import KnownUsers
from dig.recommenders.eimf.model import EIMF
from dig.recommenders.eimf.module import EIMFModule
from dig.recommenders.sasrec import SASRecConfig
from dig.recommenders.sasrec.model import SASRec
from dig.recommenders.sasrec.module import SASRecModule

WARM, STEPS, ROUNDS = 3, 30, 3
PHRASES, INTERESTS, DIM = 7000, 5, 384
EVALUATION = EvaluationConfig()

Part = tuple[list[tuple[str, str, str]], dict[str, Any]]


def first_users(prepared: Prepared, users: int) -> Prepared:
    """The first users of a data set under its whole catalogue."""
    whole = prepared.sequences
    end = int(whole.offsets[users])
    sequences = Sequences(
        whole.user_ids[:users], whole.items[:end], whole.offsets[: users + 1], whole.parts[:end], whole.split
    )
    return Prepared(prepared.catalogue, sequences, prepared.statistics, prepared.slices)


def eimf() -> Part:
    """EIMF's training beside SASRec's."""
    console.quiet = True
    torch.manual_seed(0)
    config = load_config("beauty")
    prepared = prepare(read_source(config.data), config.data)
    if "--users" in sys.argv:
        prepared = first_users(prepared, int(sys.argv[sys.argv.index("--users") + 1]))
    return measured(prepared)


def measured(prepared: Prepared) -> Part:
    """Rows and figures of a data set."""
    ours, theirs = EIMFConfig(warmup_epochs=0), SASRecConfig()
    same = ("hidden_size", "layers", "heads", "feed_forward", "scale", "dropout", "max_history", "batch_size")
    assert all(getattr(ours, name) == getattr(theirs, name) for name in same), "EIMF and SASRec differ in size"
    sequences, items = prepared.sequences, len(prepared.catalogue)
    data = ItemSequences(sequences, theirs.max_history, theirs.batch_size, 1, seed=0)
    targets = int(data.training.windows.supervised.sum())
    behaviour = replace(ours, semantic_weight=0.0, alignment_weight=0.0)

    def module(config: EIMFConfig, known: KnownUsers | None = None) -> Callable[[], lightning.LightningModule]:
        return lambda: EIMFModule(EIMF(items, config), config, EVALUATION, known)

    modules = {
        "SASRec": lambda: SASRecModule(SASRec(items, theirs), theirs, EVALUATION),
        "EIMF": module(ours, made_up_interests(prepared, ours)),
        "EIMF, behaviour alone": module(behaviour),
        "EIMF, behaviour alone, shared read-out": module(replace(behaviour, readout="shared")),
        "EIMF, behaviour alone, dynamic routing": module(replace(behaviour, extraction="dynamic_routing")),
    }
    rates: dict[str, list[float]] = {name: [] for name in modules}
    for _ in range(ROUNDS):
        for name, build in modules.items():
            rates[name].append(targets_a_second(build(), data))
    median = {name: statistics.median(measurements) for name, measurements in rates.items()}
    rows = [(f"targets an epoch, K = {ours.interests}, {torch.get_num_threads()} threads", f"{targets:,}", "")]
    for name, rate in median.items():
        turns = f"{min(rates[name]):,.0f} to {max(rates[name]):,.0f} in {ROUNDS} turns"
        times = f"{rate:,.0f} targets/s ({turns}), {targets / rate:.1f} s an epoch"
        rows.append((f"{name}: {times}", f"{median['SASRec'] / rate:.2f} times", "2.00" if name == "EIMF" else ""))
    keys = {
        "EIMF": "eimf_epoch_fraction",
        "EIMF, behaviour alone": "eimf_behaviour_fraction",
        "EIMF, behaviour alone, shared read-out": "eimf_shared_fraction",
        "EIMF, behaviour alone, dynamic routing": "eimf_routing_fraction",
    }
    return rows, {key: round(median["SASRec"] / median[name], 4) for name, key in keys.items()}


def made_up_interests(prepared: Prepared, config: EIMFConfig) -> KnownUsers:
    """Some interests an item, of thousands of phrases."""
    random, ids = np.random.default_rng(0), prepared.catalogue["item_id"].to_list()
    chosen = random.integers(0, PHRASES, (len(ids), INTERESTS))
    frame = mined_frame(
        (item, f"phrase {number}", "text", 0.9, "benchmark")
        for item, row in zip(ids, chosen, strict=True)
        for number in row
    )
    histories = prepared.sequences.train.latest(config.max_history)
    labelled = frame.with_columns(label=pl.lit(1, pl.Int8))
    explicit = ExplicitInterests(labelled, ids, histories, config.explicit_interests)
    return KnownUsers(explicit, torch.randn(len(explicit.phrases), DIM), explicit.users())


class _Clock(Callback):
    """Targets of the steps after the warm ones, and their seconds."""

    targets, started, seconds = 0, 0.0, 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Starts the clock behind the warm steps, then counts."""
        if batch_idx + 1 == WARM:
            self.started = time.perf_counter()
        elif batch_idx >= WARM:
            self.seconds = time.perf_counter() - self.started
            self.targets += int((batch.targets >= 0).sum())


def targets_a_second(module: lightning.LightningModule, data: ItemSequences) -> float:
    """Of some steps under Lightning, as the stages run them."""
    clock = _Clock()
    with quiet():
        trainer = lightning.Trainer(
            max_epochs=1,
            limit_train_batches=WARM + STEPS,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
            gradient_clip_val=1.0,
            use_distributed_sampler=False,
        )
        trainer.fit(module.train(), datamodule=data)
    return clock.targets / clock.seconds
