"""Run folders as `report` leaves them, with rankings that are made up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import yaml

__all__ = ["ITEMS", "rankings", "targets_of", "write_examples", "write_rankings", "write_run"]

ITEMS = [f"item{number:03}" for number in range(50)]


def targets_of(users: Sequence[str], seed: int = 0) -> list[str]:
    """A held-out item each."""
    generator = np.random.default_rng(seed)
    return [ITEMS[row] for row in generator.integers(0, len(ITEMS), len(users))]


def rankings(targets: Sequence[str], skill: float, seed: int, length: int = 20) -> list[list[str]]:
    """Random lists of items, of which a share ``skill`` has its target among the first ten."""
    generator = np.random.default_rng(seed)
    found = []
    for target in targets:
        items = [ITEMS[row] for row in generator.permutation(len(ITEMS))[:length]]
        if generator.random() < skill:
            if target in items:
                items.remove(target)
            items.insert(int(generator.integers(0, 10)), target)
        found.append(items[:length])
    return found


def write_rankings(
    path: Path,
    users: Sequence[str],
    targets: Sequence[str],
    stages: Mapping[str, list[list[str]]],
    numbered: bool = True,
) -> None:
    """``recommendations.parquet`` and its like; not ``numbered`` as older runs wrote it."""
    frames = [
        pl.DataFrame(
            {
                "example": np.arange(len(users)),
                "user": pl.Series(users, dtype=pl.String),
                "target": pl.Series(targets, dtype=pl.String),
                "items": pl.Series(items, dtype=pl.List(pl.String)),
                "scores": pl.Series(
                    [[-float(place) for place in range(len(row))] for row in items], dtype=pl.List(pl.Float64)
                ),
                "stage": [stage] * len(users),
            }
        )
        for stage, items in stages.items()
    ]
    frame = pl.concat(frames)
    (frame if numbered else frame.drop("example")).write_parquet(path)


def write_examples(
    path: Path,
    users: Sequence[str],
    targets: Sequence[str],
    one_hop: Sequence[str],
    histories: Sequence[Sequence[str]] | None = None,
) -> None:
    """``examples.parquet``, as far as comparisons read it."""
    frame = {
        "example": np.arange(len(users)),
        "user": users,
        "target": targets,
        "target_slice": ["cold" if target < "item010" else "warm" for target in targets],
        "history_slice": [["1-4", "5-9", "10-19"][number % 3] for number in range(len(users))],
        "one_hop_slice": list(one_hop),
    }
    if histories is not None:
        frame["history"] = pl.Series([list(history) for history in histories], dtype=pl.List(pl.String))
    pl.DataFrame(frame).write_parquet(path)


def write_run(
    folder: Path,
    users: Sequence[str],
    targets: Sequence[str],
    stages: Mapping[str, list[list[str]]],
    *,
    masked: Mapping[str, list[list[str]]] | None = None,
    seed: int = 42,
    split: str = "leave-one-out",
    ks: Sequence[int] = (5, 10),
    mask_history: bool = False,
    one_hop: Sequence[str] | None = None,
    numbered: bool = True,
    histories: Sequence[Sequence[str]] | None = None,
    catalogue: Sequence[str] | None = None,
) -> Path:
    """A run of the experiment that its parent folder is called after.

    Args:
        folder: ``runs/EXPERIMENT/RUN-ID``; ``latest`` points to the last one written.
        users: ids.
        targets: held-out items, one per user.
        stages: rankings by recommender.
        masked: rankings of the other protocol.
        seed: of the training.
        split: of the data.
        ks: cut-offs in ``metrics.json``.
        mask_history: which protocol ``stages`` is of.
        one_hop: slice a user; None writes no ``examples.parquet``.
        numbered: whether examples have numbers.
        histories: items that each user had, written with ``examples.parquet``.
        catalogue: ids of ``items.parquet``; None writes none.
    """
    folder.mkdir(parents=True)
    config = {
        "experiment": folder.parent.name,
        "seed": seed,
        "data": {"source": "quickstart", "split": split},
        "evaluation": {"ks": list(ks), "mask_history": mask_history},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    test = {f"{family}@{k}": 0.0 for family in ("hr", "ndcg", "mrr") for k in ks}
    metrics = {stage: {"split": split, "mask_history": mask_history, "test": test} for stage in stages}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    write_rankings(folder / "recommendations.parquet", users, targets, stages, numbered)
    if masked is not None:
        other = "unmasked" if mask_history else "masked"
        write_rankings(folder / f"recommendations_{other}.parquet", users, targets, masked, numbered)
    if one_hop is not None:
        write_examples(folder / "examples.parquet", users, targets, one_hop, histories)
    if catalogue is not None:
        pl.DataFrame({"item_id": list(catalogue)}).write_parquet(folder / "items.parquet")
    latest = folder.parent / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(folder.name)
    return folder
