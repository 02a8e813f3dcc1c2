"""A run as the stages leave it, made up: every part of the page has something to show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image

from dig.interests.interest import INTEREST_SCHEMA
from dig.quantization import SemanticIds
from dig.report import ReportData
from dig.report.data import Change

RECOMMENDERS = ("popularity", "item_knn", "sasrec", "tiger", "sft", "grpo")
KINDS = ("Kettle", "Teapot", "Lantern", "Blanket", "Notebook", "Trowel")
PHRASES = ("quiet evenings", "gift-ready", "small kitchens", "outdoors", "made to last", "travel-sized")
SLICES = {
    "one-hop": ("beneficiary", "non-beneficiary"),
    "target": ("cold", "rare", "warm"),
    "history": ("1-4", "5-9", "10-19", "20+"),
}


def sample(users: int = 60, items: int = 90, folder: Path | None = None, levels: int = 3, size: int = 8) -> ReportData:
    """A whole run of six recommenders.

    Args:
        users: test users, one example each.
        items: size of the catalogue.
        folder: where pictures of the first items are written; none without it.
        levels: of the Semantic IDs.
        size: codes per level.
    """
    rng = np.random.default_rng(0)
    names = [f"i{row:05d}" for row in range(items)]
    catalogue = pl.DataFrame(
        {
            "item_id": names,
            "title": [f"{KINDS[row % len(KINDS)]} number {row}, for {PHRASES[row % 5]}" for row in range(items)],
            "brand": [f"House {row % 7}" for row in range(items)],
        }
    )
    ids = SemanticIds.from_codes(names, torch.from_numpy(rng.integers(0, size, (items, levels))), [size] * levels)
    return ReportData(
        experiment="quickstart",
        run_id="df61591ae545",
        command="python -m dig.train experiment=quickstart seed=7",
        config_yaml="experiment: quickstart\nseed: 7\n",
        parent="the schema's defaults",
        changes=[Change("seed", "42", "7"), Change("sft.tasks.next_item.weight", None, "2.0")],
        statistics={
            "users": users,
            "items": items,
            "interactions": 9 * users,
            "mean_length": 8.876,
            "examples": {"valid": users, "test": users},
        },
        stages=[{"name": "prepare", "seconds": 0.4, "cached": True}, {"name": "sft", "seconds": 80.4, "cached": False}],
        metrics=_metrics(rng, users),
        curves=_curves(rng),
        health={
            "usage": [0.973, 1.0, 0.5],
            "perplexity": [7.5, 7.9, 6.25],
            "sizes": [size] * 3,
            "dead_codes": [0, 0, 4],
            "collision_rate": 0.0125,
            "largest_collision": 3,
            "collisions": "reassign",
        },
        ids=ids,
        labels=_labels(),
        interests=_interests(names),
        groups=[_group(names, step) for step in (1, 60)],
        catalogue=catalogue,
        pictures=_pictures(names[:40], folder) if folder else {},
        **_tests(rng, names, users),
    )


def _metrics(rng: np.random.Generator, users: int) -> dict:
    metrics = {}
    for place, name in enumerate(RECOMMENDERS):
        level = 0.01 + 0.011 * place
        test = {
            f"{family}@{k}": round(level * (1 + k / 20) * (1.6 if family == "hr" else 1.0), 6)
            for family in ("hr", "ndcg", "mrr")
            for k in (5, 10)
        }
        beyond = {
            "coverage@10": 0.1 * place + 0.02,
            "gini@10": 0.99 - 0.1 * place,
            "novelty@10": 7.5 + place,
            "diversity@10": 0.31,
            "popularity_lift@10": 4.0 - 0.7 * place,
            "invalid@10": 0.0,
            "duplicates@10": 0.0,
            "memorization@5": 0.55 - 0.04 * place,
        }
        masked = {key: round(value * 1.1, 6) for key, value in test.items()}
        bounds, other = (
            {key: [round(value * 0.9, 6), round(value * 1.1, 6)] for key, value in found.items()}
            for found in (test, masked)
        )
        slices = {
            f"{family}: {each}": {
                "examples": users // (at + 2),
                **{key: round(float(value * rng.uniform(0.4, 1.6)), 6) for key, value in test.items()},
            }
            for family, every in SLICES.items()
            for at, each in enumerate(every)
        }
        metrics[name] = {
            "split": "leave-one-out",
            "mask_history": False,
            "users": users,
            "examples": users,
            "seconds": 60.0 * place,
            "evaluation_seconds": 4.5,
            "valid": {key: round(value * 1.2, 6) for key, value in test.items()},
            "test": test | beyond,
            "test_masked": masked | beyond,
            "intervals": {"test": bounds, "test_masked": other},
            "slices": {"test": slices, "test_masked": slices},
        }
    over = {"difference": 0.0123, "low": 0.0011, "high": 0.0234}
    metrics["grpo"]["over_sft"] = {key: dict(over) for key in ("hr@5", "ndcg@5", "hr@10", "ndcg@10")}
    return metrics


def _curves(rng: np.random.Generator) -> dict:
    sft = [
        {"step": step, "train/loss": 5 * 0.97**step + 0.1 * rng.random(), "lr-AdamW/pg1": 0.001 * (1 - step / 120)}
        for step in range(0, 120, 2)
    ]
    sft += [
        {"step": step, "valid/ndcg@10": 0.001 * step, "valid/hr@10": 0.002 * step, "valid/hr@5": 0.001 * step}
        for step in range(0, 120, 20)
    ]
    sft[3]["train/loss"] = float("nan")
    grpo = [
        {
            "step": step,
            "train/loss": 0.01,
            "train/kl": 0.001 * step,
            "train/entropy": 3 - 0.01 * step,
            "rollout/reward": 0.3 + 0.002 * step,
            "rollout/reward_hit": 0.1 + 0.001 * step,
            "rollout/reward_interest": 0.2,
            "rollout/frac_reward_zero_std": 0.3,
        }
        for step in range(0, 60, 5)
    ]
    tokenize = [
        {"epoch": epoch, **{f"codebook/usage_{level}": 0.5 + epoch / 100 for level in (1, 2, 3)}} for epoch in range(40)
    ]
    return {"tokenize": tokenize, "sft": sft, "grpo": grpo}


def _labels() -> dict:
    return {
        "source": "behaviour",
        "interests": 540,
        "held_out": {"roc_auc": 0.875, "calibration_error": 0.0125, "interests": 7},
        "reliability": [{"predicted": p, "observed": p * p, "weight": 0.25} for p in (0.1, 0.4, 0.7, 0.95)],
        "features": [{"name": "in_title", "meaning": "found in the title", "weight": -1.25}],
        "examples": {"kept": [{"text": "gift-ready", "item": "Kettle", "lift": 3.5}], "rejected": []},
    }


def _interests(names: list[str]) -> pl.DataFrame:
    rows = [
        (name, PHRASES[(row + at) % len(PHRASES)], "text", 0.9, "lexical", 1, 0.8, 1, None, None)
        for row, name in enumerate(names)
        for at in range(2)
    ]
    return pl.DataFrame(rows, schema=INTEREST_SCHEMA, orient="row")


def _group(names: list[str], step: int) -> dict:
    item = {"item": names[0], "title": "Kettle number 0", "interests": "quiet evenings"}
    rollout = {
        **item,
        "times": 3,
        "hit": True,
        "reward": 1.25,
        "advantage": 0.75,
        "terms": {"hit": 1.0, "prefix": 0.25},
    }
    return {"step": step, "history": [item], "target": item, "rollouts": [rollout]}


def _tests(rng: np.random.Generator, names: list[str], users: int) -> dict:
    lists = np.argsort(rng.random((users, min(len(names), 400))), axis=1)
    named = np.array(names, dtype=object)
    targets = [names[row] for row in lists[:, 20]]
    examples = pl.DataFrame(
        {
            "example": np.arange(users),
            "user": [f"u{user}" for user in range(users)],
            "target": targets,
            "history": [named[row[21 : 21 + 3 + user % 12]].tolist() for user, row in enumerate(lists)],
            "one_hop": [[*named[row[40:44]], *([targets[user]] if user % 3 else [])] for user, row in enumerate(lists)],
            "target_slice": [("warm", "rare", "cold")[user % 7 % 3] for user in range(users)],
            "history_slice": ["1-4"] * users,
            "one_hop_slice": ["beneficiary" if user % 3 else "non-beneficiary" for user in range(users)],
        }
    )
    frames = []
    for place, stage in enumerate(RECOMMENDERS):
        ranked = [named[np.roll(row[:20], place)].tolist() for row in lists]
        for user in range(users):
            if (user * 7 + place * 5) % 11 < 2 + place:
                ranked[user][(user + 3 * place) % 20] = targets[user]
        frames.append(
            pl.DataFrame(
                {
                    "example": np.arange(users),
                    "user": examples["user"],
                    "target": targets,
                    "items": ranked,
                    "scores": [[-0.25 * (at + 1) for at in range(20)]] * users,
                    "stage": [stage] * users,
                }
            )
        )
    return {"examples": examples, "recommendations": pl.concat(frames)}


def _pictures(names: list[str], folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for row, name in enumerate(names):
        found[name] = folder / f"{name}.png"
        Image.new("RGB", (300, 200), (40 * row % 256, 90, (200 - 4 * row) % 256)).save(found[name])
    return found
