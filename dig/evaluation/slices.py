"""Metrics of parts of the examples: cold and warm targets, short and long histories."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from dig.evaluation.ranking import ranking_metrics

__all__ = ["slice_metrics"]


def slice_metrics(ranked: Tensor, targets: np.ndarray, labels: pl.DataFrame, ks: list[int]) -> dict[str, Any]:
    """HR@K and NDCG@K of every value of every label.

    Args:
        ranked: (examples, >= max(ks)) item rows, best first.
        targets: (examples,) item rows.
        labels: a column a way to slice, a row an example.
        ks: cut-offs.

    Returns:
        ``{"target: cold": {"examples": 138, "hr@5": …}, …}``, values in order.
    """
    found = {}
    for column in labels.columns:
        values = labels[column]
        for value in _ordered(values.unique().to_list()):
            mask = torch.from_numpy((values == value).to_numpy().copy())
            metrics = ranking_metrics(ks, sync_on_compute=False)
            metrics.update(ranked[mask], torch.from_numpy(np.asarray(targets))[mask])
            results = {name: float(number) for name, number in metrics.compute().items()}
            found[f"{column.removesuffix('_slice')}: {value}"] = {"examples": int(mask.sum()), **results}
    return found


def _ordered(values: list[str]) -> list[str]:
    """Buckets such as 5-9 by their first number, names by the alphabet."""
    return sorted(values, key=lambda value: (int("0" + value.split("-")[0].rstrip("+"))
                                             if value[:1].isdigit() else 0, value))  # fmt: skip
