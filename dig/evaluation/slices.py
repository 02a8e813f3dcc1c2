"""Metrics of parts of the examples: cold and warm targets, short and long histories, what memory could find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from dig.evaluation.paired import FAMILIES, metric_gains

__all__ = ["accuracy_gains", "slice_metrics"]


def accuracy_gains(positions: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """What every example adds to HR, NDCG and MRR at each cut-off.

    Args:
        positions: (examples,) place of the target from 0 on, -1 where it was not ranked.
        ks: cut-offs.

    Returns:
        ``hr@5`` and so on to (examples,) float64.
    """
    return {(name := f"{family}@{k}"): metric_gains(name, positions) for family in FAMILIES for k in ks}


def slice_metrics(
    positions: np.ndarray,
    labels: pl.DataFrame,
    ks: Sequence[int],
    beyond: Callable[[np.ndarray], dict[str, float]] | None = None,
) -> dict[str, dict[str, Any]]:
    """The metrics of every value of every label.

    Args:
        positions: (examples,) place of the target from 0 on, -1 where it was not ranked.
        labels: a column a way to slice, named ``…_slice``, a row an example.
        ks: cut-offs.
        beyond: gives what is measured beyond HR, NDCG and MRR of the examples of these numbers.

    Returns:
        ``{"target: cold": {"examples": 138, "hr@5": …}, …}``, values in order.
    """
    values = accuracy_gains(positions, ks)
    found = {}
    for column in labels.columns:
        of = labels[column]
        for value in _ordered(of.unique().to_list()):
            mask = (of == value).to_numpy()
            name = column.removesuffix("_slice").replace("_", "-")
            found[f"{name}: {value}"] = {"examples": int(mask.sum())} | {
                key: float(each[mask].mean()) for key, each in values.items()
            }
            if beyond is not None:
                found[f"{name}: {value}"] |= beyond(np.flatnonzero(mask))
    return found


def _ordered(values: list[str]) -> list[str]:
    """Buckets such as 5-9 by their first number, names by the alphabet."""
    return sorted(
        values, key=lambda value: (int("0" + value.split("-")[0].rstrip("+")) if value[:1].isdigit() else 0, value)
    )
