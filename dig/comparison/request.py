"""What a comparison is asked for, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dig.config import UserError, nearest
from dig.config.arguments import one_of

__all__ = [
    "FORMATS",
    "GAINS",
    "MISSING",
    "PARTS",
    "PROTOCOLS",
    "SEEDS",
    "SLICES",
    "ComparisonRequest",
    "checked_choice",
    "checked_metrics",
    "wanted_metrics",
]

FORMATS = {"text": ".txt", "markdown": ".md", "latex": ".tex", "csv": ".csv", "json": ".json"}
"""Formats with their extensions."""
PROTOCOLS = ("both", "unmasked", "masked")
GAINS = ("main", "slices")
"""Which differences are shown: those of all users, or also those of each slice and as a share of the reference."""
PARTS = {"test": "test", "valid": "validation"}
"""Which held-out items are compared on, with their names: the test's, or those by which settings may be chosen."""
SEEDS = ("apart", "mean")
"""Whether trainings that differ in the seed alone are rows of their own, or one row that is their mean."""
SLICES = {"one-hop": "one_hop_slice", "target": "target_slice", "history": "history_slice"}
"""Ways to slice users, with their columns of ``examples.parquet``."""
MISSING = ("miss", "drop")
"""What a user without a list in a file of rankings is: a miss of its row, or left out of every row."""
_FAMILIES = ("hr", "ndcg", "mrr")


@dataclass(frozen=True)
class ComparisonRequest:
    """A comparison to be made.

    Attributes:
        runs: run folders, names of experiments, either with ``:stage``; files of rankings; each with ``name=`` before
            it where rows are to be called so.
        metrics: families (``mrr``) and single metrics (``hr@20``); empty takes HR and NDCG.
        slices: a key of ``SLICES``, ``none``, or None: one-hop where the runs have it.
        against: label of the reference row; None takes the best.
        protocol: one of ``PROTOCOLS``.
        draws: resamplings.
        seed: of the resamplings.
        root: folder of the experiments' runs.
        gains: one of ``GAINS``.
        seeds: one of ``SEEDS``.
        part: one of ``PARTS``.
        missing: one of ``MISSING``.
        tables: rankings in memory, by the names of their rows.
    """

    runs: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    slices: str | None = None
    against: str | None = None
    protocol: str = "both"
    draws: int = 10_000
    seed: int = 0
    root: Path = Path("runs")
    gains: str = "main"
    seeds: str = "apart"
    part: str = "test"
    missing: str = "miss"
    tables: Mapping[str, Any] = field(default_factory=dict)


def checked_choice(name: str, value: str | None, choices: Sequence[str]) -> str | None:
    """The value, if it is a choice or None.

    Raises:
        UserError: it is not; names the nearest; exit code 2.
    """
    return None if value is None else one_of(choices)(name, value)


def checked_metrics(text: str) -> tuple[str, ...]:
    """``hr,ndcg@10,MRR`` as names.

    Raises:
        UserError: one is unknown; exit code 2.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        family, at, cutoff = name.partition("@")
        if family not in _FAMILIES:
            hint = nearest(family, _FAMILIES)
            advice = f"did you mean {hint}{at}{cutoff}?" if hint else f"there are {', '.join(_FAMILIES)}, also as hr@10"
            raise UserError(f"--metrics: {name} is not a metric to compare users by; {advice}", exit_code=2)
        if at and (not cutoff.isdecimal() or int(cutoff) < 1):
            raise UserError(f"--metrics: {name} needs a whole number above 0 after the @", exit_code=2)
    if not names:
        raise UserError("--metrics needs names such as hr@10,ndcg@10,mrr@10", exit_code=2)
    return tuple(dict.fromkeys(names))


def wanted_metrics(asked: Sequence[str], ks: Sequence[int]) -> list[str]:
    """Metrics with cut-offs: families take all that the runs have.

    Args:
        asked: as in :class:`ComparisonRequest`.
        ks: cut-offs that all runs were measured at.

    Raises:
        UserError: a family is asked for, and the runs have no cut-off in common.
    """
    metrics = []
    for name in asked or ("hr", "ndcg"):
        if "@" not in name and not ks:
            raise UserError("the runs were measured at no K in common; choose with --metrics, such as hr@10,ndcg@10")
        metrics += [name] if "@" in name else [f"{name}@{k}" for k in ks]
    return list(dict.fromkeys(metrics))
