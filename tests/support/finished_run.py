"""Folders of finished runs as `report` leaves them, with made-up numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dig.config import load_config
from dig.config.explain import config_yaml

RECOMMENDERS = ("popularity", "sasrec", "sft", "grpo")


def numbers(base: float) -> dict[str, float]:
    shares = {"hr@5": base, "hr@10": 1.5 * base, "ndcg@5": 0.6 * base, "ndcg@10": 0.75 * base, "mrr@5": 0.5 * base}
    return {name: min(share, 1.0) for name, share in shares.items()} | {
        "coverage@10": 0.25,
        "novelty@10": 12.345,
        "invalid@10": 0.0,
    }


def protocol_part(base: float) -> tuple[dict[str, float], dict[str, list[float]], dict[str, dict[str, float]]]:
    """Metrics, intervals and slices of one protocol."""
    metrics = numbers(base)
    intervals = {name: [0.9 * metrics[name], 1.1 * metrics[name]] for name in ("hr@5", "ndcg@5", "mrr@5")}
    slices = {
        "one-hop: beneficiary": {"examples": 40, **numbers(2 * base)},
        "one-hop: non-beneficiary": {"examples": 60, **numbers(0.5 * base)},
        "target: cold": {"examples": 5, **numbers(0.0)},
    }
    return metrics, intervals, slices


def measured(base: float, masks: bool = False, split: str = "leave-one-out", users: int = 100) -> dict[str, Any]:
    """An entry of metrics.json; without the history everything is twice as good."""
    other = "test_unmasked" if masks else "test_masked"
    main = protocol_part(2 * base if masks else base)
    beside = protocol_part(base if masks else 2 * base)
    return {
        "split": split,
        "mask_history": masks,
        "users": users,
        "examples": users,
        "seconds": 12.345,
        "evaluation_seconds": 4.5,
        "valid": numbers(base),
        "test": main[0],
        other: beside[0],
        "intervals": {"test": main[1], other: beside[1]},
        "slices": {"test": main[2], other: beside[2]},
    }


@cache
def _config(experiment: str, overrides: tuple[str, ...]) -> str:
    return config_yaml(load_config(experiment, list(overrides)))


def write_run(
    folder: Path, overrides: Sequence[str] = (), base: float = 0.05, experiment: str = "quickstart", **settings: Any
) -> Path:
    """A run whose recommenders have HR@5 of `base`, twice that, three times that, …"""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(_config(experiment, tuple(overrides)))
    metrics = {name: measured(base * (at + 1), **settings) for at, name in enumerate(RECOMMENDERS)}
    metrics["grpo"]["over_sft"] = {"ndcg@10": {"difference": 0.0375, "low": -0.001, "high": 0.05}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    training = folder / "checkpoints" / "sft" / "training.json"
    training.parent.mkdir(parents=True)
    training.write_text(json.dumps({"steps": 1200, "samples_per_second": 88.5, "chosen": "best", "valid/ndcg@10": 0.1}))
    log = folder / "logs" / "sft" / "000" / "metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_text("epoch,valid/hr@10,valid/ndcg@10\n0,0.05,0.025\n1,0.06,0.03\n")
    return folder
