"""Metrics of slices are those of the examples in them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from datamodules.splits import Sequences
from dig.evaluation import measures
from dig.evaluation.harness import Harness, Protocol
from dig.evaluation.measures import CatalogueFacts, beyond_accuracy
from dig.evaluation.memorization import one_hop_candidates, successor_counts
from dig.evaluation.paired import slice_metrics
from dig.evaluation.ranking import target_positions


def test_what_is_measured_beyond_accuracy_is_of_the_same_examples():
    labels = pl.DataFrame({"target_slice": ["warm", "cold", "cold", "warm"]})
    found = slice_metrics(np.array([0, 1, -1, 0]), labels, [2], lambda rows: {"rows": float(rows.sum())})
    assert found["target: cold"]["rows"] == 1 + 2 and found["target: warm"]["rows"] == 0 + 3
    assert found["target: cold"]["hr@2"] == 0.5


def test_beyond_accuracy_of_some_is_that_of_a_test_of_these_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measures, "_TOGETHER", 4)
    random = np.random.default_rng(0)
    users, items = 11, 9
    data = Sequences.from_lists(
        [f"u{user}" for user in range(users)], [random.integers(0, items, random.integers(4, 8)) for _ in range(users)]
    )
    held_out = data.held_out("test")
    facts = CatalogueFacts.of(
        np.bincount(data.train.flat(), minlength=items), users, [[str(at % 4)] for at in range(9)]
    )
    ranked = torch.from_numpy(random.permuted(np.tile(np.arange(items), (users, 1)), axis=1))
    candidates = one_hop_candidates(successor_counts(data.train, items), held_out.histories)
    rows = np.array([0, 2, 3, 5, 6, 7, 10])
    found = beyond_accuracy(ranked[rows], held_out.histories.take(rows), candidates[rows], [2, 5], facts)

    class Fixed:
        def rank(self, histories, k):
            return ranked[rows][:, :k], torch.zeros(len(rows), k)

    harness = Harness(Fixed(), [Protocol("test", unseen=False)], [2, 5], 5, facts)
    harness.step(rows, list(held_out.histories.take(rows)), held_out.targets[rows], candidates[rows])
    expected = harness.compute()["test"]
    assert set(found) == {name for name in expected if name.split("@")[0] not in ("hr", "ndcg", "mrr")}
    assert len(found) == 8 and found == {name: expected[name] for name in found}


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
