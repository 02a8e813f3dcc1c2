"""IIRG's tables of neighbours, by behaviour and by meaning, as the stage `relations` makes them. Beauty's
(``DIG_DATA_ROOT``; its vectors through the pipeline's own stages, before the clock starts), exact; beside it what the
search in cells finds of the exact neighbours. Then a million items: ten million interactions of a million users,
items drawn by Zipf's law, and made-up vectors of 384 dimensions in groups of about 20,000 that spread in 24
directions, so that neighbours are not by chance and cells cut through groups. Each is a process of its own; memory is
the most that it held, mapped input included. ``--items N`` takes a smaller catalogue in place of the million, to try it
out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Part = tuple[list[tuple[str, str, str]], dict[str, Any]]

BEAUTY_SECONDS = 5.0
MILLION_SECONDS = 300.0
MILLION_GB = 8.0
MILLION = 1_000_000
A_USER = 10  # interactions
DIM, GROUP, DIRECTIONS = 384, 20_000, 24


def relations() -> Part:
    """Beauty and a million items."""
    items = int(sys.argv[sys.argv.index("--items") + 1]) if "--items" in sys.argv else MILLION
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _beauty(folder / "beauty")
        beauty = _in_a_process("tables", folder / "beauty")
        cells = _in_a_process("cells", folder / "beauty")
        _made_up(folder / "million", items)
        million = _in_a_process("tables", folder / "million")
    rows = [
        ("Beauty, seconds", f"{beauty['seconds']:.2f}", f"{BEAUTY_SECONDS:.0f}"),
        (
            f"the same in cells ({cells['probes']} of {cells['cells']} searched), of the five nearest found",
            f"{cells['recall']:.1%}",
            "",
        ),
        (
            f"{items:,} items, {A_USER * items:,} interactions, seconds",
            f"{million['seconds']:.0f}",
            f"{MILLION_SECONDS:.0f}",
        ),
        ("of these by behaviour", f"{million['counting']:.0f}", ""),
        ("the same, most memory, GB", f"{million['gigabytes']:.1f}", f"{MILLION_GB:.0f}"),
        ("the same, of the five nearest found", f"{million['recall']:.1%}", ""),
    ]
    return rows, {
        "relations_beauty_fraction": round(beauty["seconds"] / BEAUTY_SECONDS, 3),
        "relations_million_fraction": round(million["seconds"] / MILLION_SECONDS, 3),
        "relations_million_memory_fraction": round(million["gigabytes"] / MILLION_GB, 3),
        "relations_beauty_seconds": round(beauty["seconds"], 2),
        "relations_million_seconds": round(million["seconds"], 1),
        "relations_million_gb": round(million["gigabytes"], 2),
        "relations_cells_recall_beauty": round(cells["recall"], 4),
        "relations_cells_recall_million": round(million["recall"], 4),
        "relations_items": items,
    }


def _beauty(folder: Path) -> None:
    """Beauty's training part and vectors by the pipeline's own stages, from its cache where they are there."""
    from datamodules.splits import Sequences
    from dig import load_config, run_experiment
    from dig.engine.console import console

    console.quiet = True
    if "DIG_DATA_ROOT" not in os.environ:
        sys.exit("DIG_DATA_ROOT is not set: it names the folder of the data set beauty")
    run = run_experiment(load_config("beauty", ["stages=[embed]"]))
    train = Sequences.load(run.artifacts["prepare"] / "sequences").train
    vectors = load_file(run.artifacts["embed"] / "embeddings.safetensors")["embeddings"]
    _write(folder, train.flat(), train.lengths, vectors)


def _made_up(folder: Path, items: int) -> None:
    """Ten interactions a user, as many users as items; popularity by Zipf's law, vectors in groups."""
    random = np.random.default_rng(0)
    shares = 1.0 / np.arange(1, items + 1)
    upto = np.cumsum(shares / shares.sum())
    drawn = np.searchsorted(upto, random.random(A_USER * items)).clip(max=items - 1)
    flat = random.permutation(items).astype(np.int32)[drawn]  # popular items lie anywhere in the catalogue
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(max(items // GROUP, 1), DIM, generator=generator)
    basis = torch.randn(DIRECTIONS, DIM, generator=generator)
    vectors = torch.empty(items, DIM)
    for start in range(0, items, 65_536):
        part = vectors[start : start + 65_536]
        group = torch.randint(len(centres), (len(part),), generator=generator)
        place = torch.randn(len(part), DIRECTIONS, generator=generator) / DIRECTIONS**0.5
        part.copy_(centres[group] + place @ basis + 0.1 * torch.randn(part.shape, generator=generator))
    _write(folder, flat, np.full(items, A_USER), vectors)


def _write(folder: Path, flat: np.ndarray, lengths: np.ndarray, vectors: Tensor) -> None:
    folder.mkdir()
    np.save(folder / "flat.npy", flat, allow_pickle=False)
    np.save(folder / "lengths.npy", lengths, allow_pickle=False)
    save_file({"vectors": vectors.contiguous()}, folder / "vectors.safetensors")


def _task_tables(folder: Path) -> dict[str, Any]:
    """Both tables with the defaults, from files to a file."""
    from safetensors.numpy import save_file as save_arrays

    from datamodules import relations as rooms
    from dig.config.schema import RelationsConfig

    train, items, vectors = _read(folder)
    started = time.perf_counter()
    rooms.collaborative_neighbours(train, items)  # once more, to tell its part
    counting = time.perf_counter() - started
    started = time.perf_counter()
    wanted = {"collaborative", "semantic"}
    tables, facts = rooms.relation_tables(RelationsConfig(), wanted, train, items, vectors, 42)
    save_arrays(tables, folder / "relations.safetensors")
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text()
    return {
        "seconds": seconds,
        "counting": counting,
        "recall": facts["search"].get("recall", 1.0),
        "gigabytes": int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9,
    }


def _task_cells(folder: Path) -> dict[str, Any]:
    """What cells find of the exact five nearest of every item, at the catalogue's own number of cells."""
    from datamodules.relations import nearest_in_cells, search_recall
    from dig.config.schema import RelationsConfig

    vectors, probes = _read(folder)[2](), RelationsConfig().probes
    neighbours = nearest_in_cells(vectors, probes=probes)
    return {
        "recall": search_recall(vectors, neighbours, sample=len(vectors)),
        "probes": probes,
        "cells": round(len(vectors) ** 0.5),
    }


def _read(folder: Path) -> tuple[Any, int, Callable[[], Tensor]]:
    from datamodules.histories import Histories

    lengths = np.load(folder / "lengths.npy", allow_pickle=False)
    ends = np.cumsum(lengths)
    train = Histories(np.load(folder / "flat.npy", mmap_mode="r", allow_pickle=False), ends - lengths, ends)
    vectors = load_file(folder / "vectors.safetensors")["vectors"]
    return train, len(vectors), lambda: vectors


def _in_a_process(task: str, *arguments: object) -> dict[str, Any]:
    """Runs a task in a process of its own; what it prints last is JSON."""
    command = [sys.executable, __file__, "--task", task, *map(str, arguments)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ourselves
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


TASKS: dict[str, Callable[..., dict[str, Any]]] = {"tables": _task_tables, "cells": _task_cells}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[2]](*map(Path, sys.argv[3:]))))
