"""Preparation at size beside the usual pandas loops, JSON lines beside ``json.loads``, the loader beside a backbone.

Every measurement is a process of its own, so that its peak memory is its own. All ratios are from one run.
``--small`` leaves out 10 and 30 million interactions. ``--beside CHECKOUT`` measures reading alone, in turn with
another checkout of this repository (``git worktree add ../before c9b0586``).
"""

from __future__ import annotations

import ast
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

MILLION = 1_000_000
SIZES = (1, 3, 10, 30)  # million interactions, a tenth as many users
COMPARED = 1  # million interactions that the pandas loops get
LEVELS, CODES = 4, 256
REVIEWS, METADATA = 300_000, 250_000
USERS, BATCHES, STEPS = 20_000, 150, 8
TURNS = 3  # measurements of each of two checkouts, of which the best counts


def main() -> None:
    """Measures and prints tables and, as the last line, JSON."""
    sizes = SIZES[:2] if "--small" in sys.argv else SIZES
    if "--beside" in sys.argv:
        beside(Path(sys.argv[sys.argv.index("--beside") + 1]).resolve(), sizes[0 if "--small" in sys.argv else 2])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {size: _measured("prepare", _log(folder, size)) for size in sizes}
        pandas = _measured("pandas", _log(folder, COMPARED))
        _show_sizes(figures, pandas)
        reading = _measured("reading", _reviews(folder / "reviews"))
        loading = _measured("loading", folder)
    _show_rates(reading, loading)
    largest = figures[10 if 10 in figures else sizes[-1]]
    print(
        json.dumps(
            {
                "pandas_ratio": round(pandas["seconds"] / figures[COMPARED]["seconds"], 2),
                "json_ratio": round(reading["json"] / reading["plain"], 2),
                "gzip_fraction": round(reading["bare gzip"] / reading["gzip"], 2),
                "metadata_cores_ratio": round(reading["metadata on one core"] / reading["metadata"], 2),
                "loader_ratio": round(loading["loader"] / loading["backbone"], 1),
                "seconds_10m": round(largest["seconds"], 1),
                "peak_gb_10m": round(largest["gigabytes"], 2),
            }
        )
    )


def beside(checkout: Path, millions: int) -> None:
    """Reading here and in another checkout, in turn on the same files; ratios above one are ours being faster."""
    here = Path(__file__).parents[1]
    best: dict[Path, dict[str, float]] = {here: {}, checkout: {}}
    with tempfile.TemporaryDirectory() as name:
        log, reviews = _log(Path(name), millions), _reviews(Path(name) / "reviews")
        for _ in range(TURNS):
            for tree in (checkout, here):
                rates = _measured("sources", reviews, tree)
                prepared = _measured("prepare", log, tree)
                values = {"csv": prepared["tables"], "all": prepared["seconds"], "gigabytes": prepared["gigabytes"]}
                values |= {each: rates[each] for each in ("plain", "gzip", "metadata")}
                best[tree] = {each: min(value, best[tree].get(each, value)) for each, value in values.items()}
    ours, theirs = best[here], best[checkout]
    table = Table(title=f"best of {TURNS} in turn, {millions} M interactions; seconds")
    for heading in ("what", "here", "there", "there / here"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for each in ours:
        table.add_row(each, f"{ours[each]:.2f}", f"{theirs[each]:.2f}", f"{theirs[each] / ours[each]:.2f}")
    Console().print(table)
    ratios = {f"{each}_ratio": round(theirs[each] / ours[each], 3) for each in ("csv", "plain", "gzip", "metadata")}
    print(
        json.dumps(
            {
                **ratios,
                f"seconds_fraction_{millions}m": round(ours["all"] / theirs["all"], 3),
                f"memory_fraction_{millions}m": round(ours["gigabytes"] / theirs["gigabytes"], 3),
            }
        )
    )


def _measured(task: str, path: Path, checkout: Path | None = None) -> dict[str, float]:
    """Runs a task in a process of its own, of another checkout if one is named; what it prints last is JSON."""
    tree = checkout or Path(__file__).parents[1]
    command = [sys.executable, __file__, "--task", task, str(path)]  # this very task, by the other's modules
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout  # noqa: S603 - ourselves
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def _peak_gigabytes() -> float:
    """This process's own peak; the one of getrusage would start at that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


# --- data as large as life --------------------------------------------------------------------------------


def _log(folder: Path, millions: int) -> Path:
    """A folder of interchange tables: popularity falls off as in shops, users have ten interactions on average."""
    home = folder / f"{millions}m"
    if home.is_dir():
        return home
    home.mkdir(parents=True)
    rows, users, items = millions * MILLION, millions * MILLION // 10, 20_000 * millions
    random_numbers = np.random.default_rng(0)
    popular = np.minimum((items * random_numbers.power(0.4, rows)).astype(np.int64), items - 1)
    frame = pl.DataFrame(
        {
            "user_id": "A" + pl.Series(random_numbers.integers(0, users, rows)).cast(pl.String).str.zfill(13),
            "item_id": "B" + pl.Series(popular).cast(pl.String).str.zfill(9),
            "timestamp": random_numbers.integers(1_000_000_000, 1_500_000_000, rows),
        }
    )
    frame.write_csv(home / "interactions.csv")
    ids = frame["item_id"].unique()
    pl.DataFrame({"item_id": ids, "title": "An item named " + ids}).write_parquet(home / "items.parquet")
    return home


def _reviews(folder: Path) -> Path:
    """Reviews and metadata in the 2018 and the 2014 formats, plain and gzipped."""
    words = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(2, 9))) for _ in range(5000)]  # noqa: S311
    weights = list(np.cumsum(1 / np.arange(1, 5001)))
    text = lambda most: " ".join(random.choices(words, cum_weights=weights, k=random.randint(2, most)))  # noqa: E731, S311
    for name in ("plain", "packed", "metadata"):
        (folder / name).mkdir(parents=True)
    reviews = folder / "plain" / "X_5.json"
    with reviews.open("w") as stream:
        for number in range(REVIEWS):
            review = {
                "overall": 5.0,
                "verified": True,
                "reviewTime": "09 4, 2015",
                "reviewerName": 'Rick "R" B',
                "reviewerID": f"A{random.randrange(10**12):013d}",  # noqa: S311
                "asin": f"B{random.randrange(1000):09d}",  # noqa: S311
                "reviewText": text(160),
                "summary": text(9),
                "unixReviewTime": 1393545600 + number,
            }
            stream.write(json.dumps(review) + "\n")
    with reviews.open("rb") as plain, gzip.open(folder / "packed" / "X_5.json.gz", "wb", compresslevel=6) as packed:
        packed.writelines(plain)
    items = [
        {"asin": f"B{number:09d}", "title": text(12), "category": ["X", text(3)], "description": [text(90)]}
        for number in range(METADATA)
    ]
    for name in ("plain", "packed"):
        lines = (json.dumps(item) for item in items[:1000])
        (folder / name / "meta_X.json").write_text("\n".join(lines) + "\n")
    with (folder / "metadata" / "meta_X.json").open("w") as stream:
        for item in items:
            old = {**item, "categories": [item["category"]], "description": item["description"][0], "price": 7.99}
            stream.write(f"{old}\n")
    (folder / "metadata" / "reviews_X_5.json").write_text(
        "".join(
            json.dumps({"reviewerID": "A", "asin": item["asin"], "overall": 5.0, "unixReviewTime": number}) + "\n"
            for number, item in enumerate(items[:10])
        )
    )
    return folder


# --- tasks, each in a process of its own ----------------------------------------------------------------


def _prepare(folder: Path) -> dict[str, float]:
    """CSV to 5-core, split and token arrays."""
    import torch

    from datamodules.mixture import write_token_arrays
    from datamodules.preparation import prepare
    from datamodules.prompts import SidPrompts
    from datamodules.sequences import training_windows
    from datamodules.sources import read_source
    from datamodules.tasks import ItemTexts, TaskSource
    from dig.config.schema import DataConfig, PromptConfig
    from dig.engine.console import console

    console.quiet = True
    started = time.perf_counter()
    config = DataConfig(path=str(folder), k_core=5)
    prepared = prepare(read_source(config), config)
    read = time.perf_counter()
    prepared.sequences.save(folder / "sequences")
    tokens = torch.randint(4, 4 + CODES, (len(prepared.catalogue), LEVELS))
    special = SimpleNamespace(pad_token_id=0, bos_token_id=1, eos_token_id=2)
    builder = SidPrompts(tokens, special, PromptConfig("compact"), from_scratch=True)
    windows = training_windows(prepared.sequences, builder)
    write_token_arrays(TaskSource("next_item", builder, windows, ItemTexts(), 0), folder / "tokens")
    ended = time.perf_counter()
    return {
        "seconds": ended - started,
        "tables": read - started,
        "arrays": ended - read,
        "gigabytes": _peak_gigabytes(),
        "interactions": len(prepared.sequences.items),
    }


def _pandas(folder: Path) -> dict[str, float]:
    """The same, the way that peers write it: group-bys and loops over users and items."""
    import pandas as pd

    started = time.perf_counter()
    frame = pd.read_csv(folder / "interactions.csv")
    while True:
        users, items = frame.groupby("user_id").size(), frame.groupby("item_id").size()
        kept = frame[frame["user_id"].isin(users.index[users >= 5]) & frame["item_id"].isin(items.index[items >= 5])]
        if len(kept) == len(frame):
            break
        frame = kept
    rows = {item: row for row, item in enumerate(frame["item_id"].unique())}
    codes = np.random.default_rng(0).integers(4, 4 + CODES, (len(rows), LEVELS)).tolist()
    samples, held_out = [], []
    for user, group in frame.groupby("user_id", sort=False):
        bought = [rows[item] for item in group.sort_values("timestamp", kind="stable")["item_id"]]
        held_out.append((user, bought[-2], bought[-1]))
        for start in range(0, len(bought) - 2, 20):
            part = bought[start : min(start + 21, len(bought) - 2)]
            samples += [[1] + [token for row in part for token in codes[row]]]
    np.save(folder / "pandas.npy", np.array([token for sample in samples for token in sample], dtype=np.int32))
    return {"seconds": time.perf_counter() - started, "gigabytes": _peak_gigabytes()}


def _sources(folder: Path) -> dict[str, float]:
    """Seconds in which we read reviews, plain and packed, and metadata."""
    from datamodules.sources import read_source
    from dig.config.schema import DataConfig
    from dig.engine.console import console

    console.quiet = True
    read_source(DataConfig(source="amazon2018", path=str(folder / "plain"), unknown_items="keep"))  # warm
    sources = {
        "plain": ("amazon2018", "plain", 4),
        "gzip": ("amazon2018", "packed", 4),
        "metadata": ("amazon2014", "metadata", 2),
    }
    return {
        name: _best(
            lambda s=source, p=place: read_source(
                DataConfig(source=s, path=str(folder / p), category="X", unknown_items="keep")
            ),
            repeats,
        )
        for name, (source, place, repeats) in sources.items()
    }


def _reading(folder: Path) -> dict[str, float]:
    """Seconds for reviews and metadata, ours and the usual way."""
    from datamodules.sources import catalogue, read_source
    from dig.config.schema import DataConfig

    ours = _sources(folder)
    peak = _peak_gigabytes()
    catalogue._POOLED = 1 << 60
    old = DataConfig(source="amazon2014", path=str(folder / "metadata"), category="X", unknown_items="keep")
    ours["metadata on one core"] = _best(lambda: read_source(old), 1)

    def dictionaries(path: Path, parse: Callable[[bytes], Any]) -> int:
        with path.open("rb") as stream:
            return sum(1 for line in stream if parse(line))

    def bare() -> int:
        with gzip.open(folder / "packed" / "X_5.json.gz") as stream:
            return sum(len(piece) for piece in iter(lambda: stream.read(MILLION), b""))

    return {
        **ours,
        "json": _best(lambda: dictionaries(folder / "plain" / "X_5.json", json.loads)),
        "bare gzip": _best(bare),
        "literal_eval": _best(
            lambda: dictionaries(folder / "metadata" / "meta_X.json", lambda line: ast.literal_eval(line.decode())), 1
        ),
        "megabytes": (folder / "plain" / "X_5.json").stat().st_size / 1e6,
        "metadata megabytes": (folder / "metadata" / "meta_X.json").stat().st_size / 1e6,
        "gigabytes": peak,
    }


def _loading(folder: Path) -> dict[str, float]:
    """Tokens a second that the training loader delivers, and that the default backbone learns from, on two cores."""
    import torch

    from datamodules.loading import EpochBatchSampler, ResumableLoader
    from datamodules.mixture import TaskMixture, TaskPart, TokenArrays, write_token_arrays
    from datamodules.prompts import SidPrompts
    from datamodules.sequences import training_windows
    from datamodules.splits import Sequences
    from datamodules.tasks import ItemTexts, TaskSource
    from dig.config.schema import BackboneConfig, PromptConfig
    from dig.generation.backbone import build_backbone
    from dig.generation.causal_paths import CausalPathModel, next_token_loss

    torch.manual_seed(0)
    torch.set_num_threads(2)
    random_numbers = np.random.default_rng(0)
    lengths = random_numbers.integers(5, 25, USERS)
    sequences = Sequences.from_lists(
        [str(user) for user in range(USERS)], [random_numbers.integers(0, 5000, length) for length in lengths]
    )
    backbone = build_backbone(BackboneConfig(), [CODES] * LEVELS, 128)
    codes = torch.randint(0, CODES, (5000, LEVELS))
    builder = SidPrompts(backbone.vocabulary.encode(codes), backbone.tokenizer, PromptConfig(), from_scratch=True)
    windows = training_windows(sequences, builder)
    write_token_arrays(TaskSource("next_item", builder, windows, ItemTexts(), 0), folder / "loading")
    samples = TaskMixture([TaskPart(TokenArrays(folder / "loading"))], pack=True)
    loader = ResumableLoader(samples, EpochBatchSampler(len(samples), 128, 0))
    started = time.perf_counter()
    batches = [batch for batch, _ in zip(loader, range(BATCHES), strict=False)]
    delivered = sum(int((batch.attention_mask > 0).sum()) for batch in batches) / (time.perf_counter() - started)
    decoder, optimiser = CausalPathModel(backbone.model), torch.optim.AdamW(backbone.model.parameters())

    def step(batch: Any) -> int:
        next_token_loss(decoder, batch).backward()
        optimiser.step()
        optimiser.zero_grad()
        return int((batch.attention_mask > 0).sum())

    step(batches[0])
    started = time.perf_counter()
    learned = sum(step(batch) for batch in batches[:STEPS]) / (time.perf_counter() - started)
    return {"loader": delivered, "backbone": learned}


def _best(task: Callable[[], Any], repeats: int = 4) -> float:
    """The fastest of some runs, in seconds."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


# --- tables ---------------------------------------------------------------------------------------------


def _show_sizes(found: dict[int, dict[str, float]], pandas: dict[str, float]) -> None:
    table = Table(title="CSV to 5-core, split and token arrays")
    for heading in ("interactions", "how", "seconds", "tables", "arrays", "s/million", "peak GB"):
        table.add_column(heading, justify="left" if heading == "how" else "right")
    for size, row in found.items():
        table.add_row(
            f"{size} M",
            "dig",
            f"{row['seconds']:.1f}",
            f"{row['tables']:.1f}",
            f"{row['arrays']:.1f}",
            f"{row['seconds'] / size:.2f}",
            f"{row['gigabytes']:.2f}",
        )
    table.add_row(
        f"{COMPARED} M",
        "pandas loops",
        f"{pandas['seconds']:.1f}",
        "",
        "",
        f"{pandas['seconds'] / COMPARED:.2f}",
        f"{pandas['gigabytes']:.2f}",
    )
    Console().print(table)


def _show_rates(reading: dict[str, float], loading: dict[str, float]) -> None:
    table = Table(title=f"reading, with all columns made (peak {reading['gigabytes']:.2f} GB), and loading")
    table.add_column("what")
    table.add_column("rate", justify="right")
    rows = (
        ("reviews, JSON lines", "plain", "megabytes"),
        ("json.loads into dictionaries", "json", "megabytes"),
        ("reviews, gzipped", "gzip", "megabytes"),
        ("decompression alone", "bare gzip", "megabytes"),
        ("metadata, Python dicts, all cores", "metadata", "metadata megabytes"),
        ("metadata, Python dicts, one core", "metadata on one core", "metadata megabytes"),
        ("ast.literal_eval line by line", "literal_eval", "metadata megabytes"),
    )
    for label, name, size in rows:
        table.add_row(label, f"{reading[size] / reading[name]:.0f} MB/s")
    table.add_row("training loader", f"{loading['loader']:,.0f} tokens/s")
    table.add_row("default backbone, training", f"{loading['backbone']:,.0f} tokens/s")
    Console().print(table)


TASKS = {"prepare": _prepare, "pandas": _pandas, "sources": _sources, "reading": _reading, "loading": _loading}

if __name__ == "__main__":
    if "--task" in sys.argv:
        print(json.dumps(TASKS[sys.argv[2]](Path(sys.argv[3]))))
    else:
        main()
