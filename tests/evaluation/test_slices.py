"""Metrics of slices are those of the examples in them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from dig.evaluation.ranking import target_positions
from dig.evaluation.slices import slice_metrics


def test_by_hand():
    ranked = torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]])
    targets = np.array([2, 3, 9, 7])
    labels = pl.DataFrame(
        {"target_slice": ["warm", "cold", "cold", "warm"], "history_slice": ["10-19", "20+", "5-9", "5-9"]}
    )
    labels = labels.with_columns(one_hop_slice=pl.lit("beneficiary"))
    found = slice_metrics(target_positions(ranked, torch.from_numpy(targets)).numpy(), labels, [1, 2])
    names = ["target: cold", "target: warm", "history: 5-9", "history: 10-19", "history: 20+", "one-hop: beneficiary"]
    assert list(found) == names
    all_half = {f"{name}@{k}": 0.5 for name in ("hr", "ndcg", "mrr") for k in (1, 2)}
    assert found["target: cold"] == {"examples": 2, **all_half}
    assert found["target: warm"]["hr@1"] == 0.5 and found["target: warm"]["hr@2"] == 1.0
    assert found["target: warm"]["ndcg@2"] == pytest.approx((1 / np.log2(3) + 1) / 2)
    assert found["target: warm"]["mrr@2"] == pytest.approx(0.75)
    assert found["history: 20+"] == {"examples": 1, **dict.fromkeys(all_half, 1.0)}
    assert found["one-hop: beneficiary"]["hr@2"] == pytest.approx(0.75)
