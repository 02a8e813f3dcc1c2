"""Metrics of slices are those of the examples in them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from dig.evaluation import slice_metrics


def test_by_hand():
    ranked = torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]])
    targets = np.array([2, 3, 9, 7])
    labels = pl.DataFrame(
        {"target_slice": ["warm", "cold", "cold", "warm"], "history_slice": ["10-19", "20+", "5-9", "5-9"]}
    )
    found = slice_metrics(ranked, targets, labels, [1, 2])
    assert list(found) == ["target: cold", "target: warm", "history: 5-9", "history: 10-19", "history: 20+"]
    assert found["target: cold"] == {"examples": 2, "hr@1": 0.5, "hr@2": 0.5, "ndcg@1": 0.5, "ndcg@2": 0.5}
    assert found["target: warm"]["hr@1"] == 0.5 and found["target: warm"]["hr@2"] == 1.0
    assert found["target: warm"]["ndcg@2"] == pytest.approx((1 / np.log2(3) + 1) / 2)
    assert found["history: 20+"] == {"examples": 1, "hr@1": 1.0, "hr@2": 1.0, "ndcg@1": 1.0, "ndcg@2": 1.0}
