"""SASRec's training beside RecBole's, and evaluation, report and comparison of all users of a data set.

Beauty's training part (``DIG_DATA_ROOT``). RecBole cuts it into a sample a target: the history before it, padded to 50
items. Ours reads a window of a user once and learns at every position. So RecBole's batch is ``BATCH`` samples, and
ours as many windows as hold so many targets on average: both take the same number of steps an epoch. Width, layers,
heads, feed-forward, dropout, longest history, full cross-entropy, Adam, learning rate and threads are the same. They
take turns, and the first steps of a turn are not counted. Ours runs under Lightning as the stage runs it, theirs by the
epoch loop of its own ``Trainer``. What report and comparison read are rankings of models that hardly learned.

``--users N`` takes the first users alone, to try it out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import polars as pl
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table
from torchmetrics import MetricCollection

from datamodules.examples import ExampleDataModule, Examples
from datamodules.item_sequences import ItemSequences
from datamodules.preparation import Prepared, prepare
from datamodules.sources import read_source
from datamodules.splits import Sequences, label_slices
from dig.config import load_config
from dig.config.explain import config_yaml
from dig.config.schema import EvaluationConfig
from dig.engine.artifacts import read_json, write_json
from dig.engine.console import console
from dig.engine.training import quiet
from dig.evaluation.harness import Evaluation, Harness, Protocol
from dig.evaluation.memorization import beneficiaries, one_hop_candidates, successor_counts
from dig.interests.interest import mined_frame
from dig.modules.evaluation import EvaluationModule
from dig.quantization import SemanticIds
from dig.recommenders.sasrec import SASRecConfig
from dig.recommenders.sasrec.model import SASRec
from dig.recommenders.sasrec.module import SASRecModule
from dig.stages.evaluation import Asked, catalogue_facts, recommendations_file, write_evaluation

SIZES = SASRecConfig(hidden_size=64, layers=2, heads=2, feed_forward=4, scale=None, dropout=0.5, max_history=50)
BATCH, WARM, ROUNDS, PEER_STEPS = 2048, 2, 3, 6
RECOMMENDERS = ("popularity", "item_knn", "sasrec", "tiger", "sft", "grpo")
EVALUATION = EvaluationConfig()
CODES, INTERESTS, STEPS = 256, 5, 5000
PROTOCOLS = (Protocol("test", unseen=False), Protocol("test_masked", unseen=True))


def main() -> None:
    """Measures and prints tables and, as the last line, JSON."""
    console.quiet = True
    torch.manual_seed(0)
    config = load_config("beauty")
    prepared = prepare(read_source(config.data), config.data)
    if "--users" in sys.argv:
        prepared = _first_users(prepared, int(sys.argv[sys.argv.index("--users") + 1]))
    with tempfile.TemporaryDirectory() as name:
        model, trained = _training(prepared, Path(name))
        run = Path(name) / "runs" / "beauty" / "benchmark"
        measured = _evaluation(model, prepared, run)
        (run / "config.yaml").write_text(config_yaml(config), encoding="utf-8")
        compared = _seconds(lambda: _compare(run, Path(name) / "comparison.md"))
        reported = _report(prepared, run)
    table = Table(title=f"{len(prepared.sequences):,} users, {torch.get_num_threads()} threads")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for what, figure in (
        ("SASRec's evaluation, both protocols, all metrics, seconds", f"{measured['evaluation_seconds']:.1f}"),
        ("of it metrics", f"{measured['metric_fraction']:.2%}"),
        ("slices, intervals and tables of a recommender, seconds", f"{measured['writing_seconds']:.1f}"),
        (f"report of {len(RECOMMENDERS)} recommenders, seconds", f"{reported['report_seconds']:.1f}"),
        ("its size, MB", f"{reported['report_mb']:.2f}"),
        (f"comparison of {len(RECOMMENDERS)} recommenders, both protocols, seconds", f"{compared:.1f}"),
    ):
        table.add_row(what, figure)
    Console().print(table)
    figures = trained | measured | reported | {"compare_seconds": compared}
    print(json.dumps({key: None if value is None else round(value, 4) for key, value in figures.items()}))


def _first_users(prepared: Prepared, users: int) -> Prepared:
    """The first users of a data set under its whole catalogue."""
    whole = prepared.sequences
    end = int(whole.offsets[users])
    sequences = Sequences(
        whole.user_ids[:users], whole.items[:end], whole.offsets[: users + 1], whole.parts[:end], whole.split
    )
    return Prepared(prepared.catalogue, sequences, prepared.statistics, prepared.slices)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# --- training --------------------------------------------------------------------------------------------------------


def _training(prepared: Prepared, folder: Path) -> tuple[SASRec, dict[str, float | None]]:
    """The model that was trained in float32, and the ratios of the epochs."""
    sequences, items = prepared.sequences, len(prepared.catalogue)
    data = ItemSequences(sequences, SIZES.max_history, 1, 1, seed=0)
    targets = int(data.training.windows.supervised.sum())
    data.batch_size = max(1, round(BATCH * len(data.training) / targets))
    model = SASRec(items, SIZES)
    turns: dict[str, Callable[[], float]] = {
        "dig": lambda: _our_epoch(model, data, "32-true"),
        "dig, bf16-mixed": lambda: _our_epoch(SASRec(items, SIZES), data, "bf16-mixed"),
    }
    if importlib.util.find_spec("recbole") is None:
        print("RecBole is not installed (`make bench-evaluation` does it on Python 3.11), so there is no ratio to it")
    else:
        with contextlib.chdir(folder):  # it writes logs and checkpoints where it stands
            turns["RecBole"] = _peer(sequences, targets)
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(ROUNDS):
        for name, turn in turns.items():
            rates[name].append(turn())
    median = {name: statistics.median(measured) for name, measured in rates.items()}
    table = Table(
        title=f"SASRec, {targets:,} targets an epoch, {torch.get_num_threads()} threads; a step has "
        f"{data.batch_size} of our windows or {BATCH:,} of RecBole's samples"
    )
    for heading in ("how", "targets/s", "of the turns", "seconds an epoch"):
        table.add_column(heading, justify="left" if heading == "how" else "right")
    for name, rate in median.items():
        turns_of = f"{min(rates[name]):,.0f} to {max(rates[name]):,.0f}"
        table.add_row(name, f"{rate:,.0f}", turns_of, f"{targets / rate:.1f}")
    Console().print(table)
    theirs = median.get("RecBole")
    return model, {
        "peer_epoch_ratio": theirs and median["dig"] / theirs,
        "peer_bf16_epoch_ratio": theirs and median["dig, bf16-mixed"] / theirs,
        "epoch_seconds": targets / median["dig"],
    }


class _Clock(Callback):
    """Targets of the steps after the warm ones, and their seconds."""

    targets, started, seconds = 0, 0.0, 1.0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Starts the clock behind the warm steps; the next batch is loaded under it."""
        if batch_idx == WARM:
            self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts."""
        if batch_idx >= WARM:
            self.seconds = time.perf_counter() - self.started
            self.targets += int((batch.targets >= 0).sum())


def _our_epoch(model: SASRec, data: ItemSequences, precision: Any) -> float:
    """Targets a second of an epoch under Lightning."""
    clock = _Clock()
    with quiet():
        trainer = lightning.Trainer(
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
            precision=precision,
            gradient_clip_val=1.0,
            use_distributed_sampler=False,
        )
        trainer.fit(SASRecModule(model.train(), SIZES, EVALUATION), datamodule=data)
    return clock.targets / clock.seconds


def _peer(sequences: Sequences, targets: int) -> Callable[[], float]:
    """Prepares RecBole; each call trains some steps and gives targets a second.

    Its leave-one-out split is ours, so that it trains on the same targets; the place of an interaction is its time.
    """
    for name, kind in {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}.items():
        if not hasattr(np, name):
            setattr(np, name, kind)  # names of NumPy 1 that its configuration copies and nothing here uses
    warnings.filterwarnings("ignore", module="recbole")  # of pandas and torch, about what later versions will change
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.sequential_recommender import SASRec as PeerSASRec
    from recbole.trainer import Trainer as PeerTrainer

    Path("shop").mkdir()
    users = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))
    columns = {"user_id:token": users, "item_id:token": sequences.items, "timestamp:float": np.arange(len(users))}
    pl.DataFrame(columns).write_csv("shop/shop.inter", separator="\t")
    settings = {
        "data_path": ".",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "use_gpu": False,
        "hidden_size": SIZES.hidden_size,
        "inner_size": SIZES.feed_forward * SIZES.hidden_size,
        "n_layers": SIZES.layers,
        "n_heads": SIZES.heads,
        "MAX_ITEM_LIST_LENGTH": SIZES.max_history,
        "hidden_dropout_prob": SIZES.dropout,
        "attn_dropout_prob": SIZES.dropout,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "train_batch_size": BATCH,
        "learner": "adam",
        "learning_rate": SIZES.learning_rate,
        "show_progress": False,
        "state": "ERROR",
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
    }
    arguments, sys.argv = sys.argv, sys.argv[:1]  # it reads the command line, too
    try:
        config = Config(model="SASRec", dataset="shop", config_dict=settings)
    finally:
        sys.argv = arguments
    logging.getLogger().setLevel(logging.ERROR)
    train = data_preparation(config, create_dataset(config))[0]
    assert len(train.dataset) == targets, f"RecBole learns {len(train.dataset):,} targets, ours {targets:,}"
    trainer = PeerTrainer(config, PeerSASRec(config, train.dataset))
    batches = _endless(train)

    def turn() -> float:
        trainer._train_epoch(islice(batches, WARM), 0)
        samples = 0

        def counted() -> Iterator[Any]:
            nonlocal samples
            for batch in islice(batches, PEER_STEPS):
                samples += len(batch)
                yield batch

        seconds = _seconds(lambda: trainer._train_epoch(counted(), 0))
        return samples / seconds

    return turn


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


# --- evaluation ------------------------------------------------------------------------------------------------------


def _evaluation(model: SASRec, prepared: Prepared, run: Path) -> dict[str, float]:
    """Times SASRec's test under Lightning, as the stage tests it; leaves a run with rankings of all recommenders."""
    sequences, catalogue = prepared.sequences, prepared.catalogue
    held_out = sequences.held_out("test")
    candidates = one_hop_candidates(successor_counts(sequences.train, len(catalogue)), held_out.histories)
    facts = catalogue_facts(sequences, catalogue)
    data = ExampleDataModule(Examples(held_out, candidates), EVALUATION.batch_size)

    def test(ranker: SASRec) -> dict[str, Evaluation]:
        harness = Harness(ranker.eval(), PROTOCOLS, EVALUATION.ks, EVALUATION.num_beams, facts)
        module = EvaluationModule(harness, len(held_out))
        with quiet():
            trainer = lightning.Trainer(
                accelerator="cpu",
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
            trainer.test(module, datamodule=data, verbose=False)
        return module.collect()

    with _metric_clock() as spent:
        started = time.perf_counter()
        evaluations = {"sasrec": test(model)}
        seconds = time.perf_counter() - started
    others = [name for name in RECOMMENDERS if name != "sasrec"]
    for seed, name in enumerate(others):
        torch.manual_seed(seed)
        evaluations[name] = test(SASRec(len(catalogue), SIZES))
    ids = catalogue["item_id"]
    labels = label_slices(sequences, len(catalogue)).filter(pl.col("part") == "test").drop("part")
    examples = pl.DataFrame(
        {
            "example": np.arange(len(held_out)),
            "user": sequences.user_ids.gather(held_out.users),
            "target": ids.gather(held_out.targets),
            "history": [ids.gather(history) for history in held_out.histories],
            "one_hop": [ids.gather(row[row >= 0]) for row in candidates],
            **labels.to_dict(),
            "one_hop_slice": np.where(beneficiaries(candidates, held_out.targets), "beneficiary", "non-beneficiary"),
        }
    )
    run.mkdir(parents=True)
    examples.write_parquet(run / "examples.parquet")
    catalogue.with_columns(train_count=pl.Series(facts.counts.numpy())).write_parquet(run / "items.parquet")
    asked, writing, metrics = Asked(examples, held_out, candidates, facts), 0.0, {}
    for stage in RECOMMENDERS:
        folder = run / stage
        folder.mkdir()
        arguments = (folder, stage, sequences.split, EVALUATION.ks, ids, asked, evaluations[stage])
        writing += _seconds(lambda arguments=arguments: write_evaluation(*arguments))  # type: ignore[misc]
        metrics[stage] = read_json(folder / "metrics.json") | {"mask_history": False}
    for protocol in PROTOCOLS:
        name = recommendations_file(protocol.name)
        pl.concat([pl.read_parquet(run / stage / name) for stage in RECOMMENDERS]).write_parquet(run / name)
    write_json(run / "metrics.json", metrics)
    return {
        "evaluation_seconds": seconds,
        "metric_fraction": spent[0] / seconds,
        "writing_seconds": writing / len(RECOMMENDERS),
    }


@contextlib.contextmanager
def _metric_clock() -> Iterator[list[float]]:
    """Seconds that collections of metrics take while it is open."""
    spent, kept = [0.0], {name: getattr(MetricCollection, name) for name in ("update", "compute")}

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return work(*arguments, **named)
            finally:
                spent[0] += time.perf_counter() - started

        return run

    try:
        for name, work in kept.items():
            setattr(MetricCollection, name, timed(work))
        yield spent
    finally:
        for name, work in kept.items():
            setattr(MetricCollection, name, work)


# --- comparison and report -------------------------------------------------------------------------------------------


def _compare(run: Path, out: Path) -> None:
    command = [sys.executable, "-m", "dig.compare", str(run), "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ourselves


def _report(prepared: Prepared, run: Path) -> dict[str, float]:
    """Times the page of the run, from tables in memory to the file; interests, their labels, Semantic IDs and logs are
    made up, of the sizes that Beauty's have."""
    from dig.report import ReportData, render_report

    ids = prepared.catalogue["item_id"]
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, CODES, (len(ids), 3), generator=generator)
    data = ReportData(
        experiment="beauty",
        run_id="benchmark",
        config_yaml=(run / "config.yaml").read_text(encoding="utf-8"),
        statistics=prepared.statistics,
        metrics=json.loads((run / "metrics.json").read_text(encoding="utf-8")),
        ids=SemanticIds.from_codes(ids.to_list(), codes, [CODES] * 3),
        interests=_interests(ids),
        health={
            "usage": [1.0] * 3,
            "perplexity": [240.0] * 3,
            "sizes": [CODES] * 3,
            "dead_codes": [0] * 3,
            "collision_rate": 0.05,
            "largest_collision": 8,
            "collisions": "reassign",
        },
        curves={stage: [_logged(step) for step in range(10, STEPS, 10)] for stage in RECOMMENDERS[2:]},
        catalogue=pl.read_parquet(run / "items.parquet"),
        recommendations=pl.read_parquet(run / "recommendations.parquet"),
        examples=pl.read_parquet(run / "examples.parquet"),
    )
    path = run / "report.html"
    seconds = _seconds(lambda: path.write_text(render_report(data), encoding="utf-8"))
    return {"report_seconds": seconds, "report_mb": path.stat().st_size / 1e6}


def _logged(step: int) -> dict[str, float]:
    """A row of a stage's log."""
    return {
        "step": float(step),
        "train/loss": 9.0 - math.log10(step),
        "valid/ndcg@10": 0.05 * (1 - 1 / step),
        "train/gradient_norm": 1.0 + 1 / step,
        "lr-AdamW": 1e-3 * (1 - step / STEPS),
    }


def _interests(ids: pl.Series) -> pl.DataFrame:
    """Five labelled interests an item, of some thousand phrases."""
    random = np.random.default_rng(0)
    words = random.choice(
        ["soft", "travel", "gift", "dry", "organic", "daily", "quick", "gentle", "bold", "light"],
        (INTERESTS * len(ids), 4),
    )
    items = np.repeat(ids.to_numpy(), INTERESTS).tolist()
    frame = mined_frame(
        (item, " ".join(phrase), "text", 0.9, "benchmark") for item, phrase in zip(items, words.tolist(), strict=True)
    )
    labels, scores = random.integers(0, 2, len(frame)), random.random(len(frame))
    return frame.with_columns(label=pl.Series(labels, dtype=pl.Int8), score=pl.Series(scores))


if __name__ == "__main__":
    main()
