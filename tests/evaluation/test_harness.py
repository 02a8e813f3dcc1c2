"""The harness: same users, same order, histories masked on demand, and rankings that are none refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from dig.evaluation import Scorer, evaluate
from dig.evaluation.harness import Harness, Protocol, other_protocol
from dig.evaluation.measures import CatalogueFacts, Coverage, Gini, IntraListDiversity, Novelty


class Fixed:
    """Ranks the first k of a given order for each user, found by the first item of the history."""

    def __init__(self, orders: dict[int, list[int]]) -> None:
        self.orders = orders
        self.asked: list[tuple[int, int]] = []

    def rank(self, histories: Sequence[np.ndarray], k: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append((len(histories), k))
        rows = [self.orders[int(history[0])][:k] for history in histories]
        ranked = torch.tensor([row + [-1] * (k - len(row)) for row in rows])
        scores = (10.0 - torch.arange(k)).expand(len(rows), -1)
        return ranked, scores.masked_fill(ranked < 0, float("-inf"))


HISTORIES = [np.array([0, 5]), np.array([1]), np.array([2, 3, 2])]
ORDERS = {0: [5, 4, 0, 9, 8, 7, 6], 1: [9, 8, 7, 6, 5, 4, 3], 2: [2, 3, 9]}


def run(ranker: object, targets: list[int], mask: bool = False, depth: int = 4, batch_size: int = 2):
    return evaluate(ranker, HISTORIES, np.array(targets), [1, 3], depth, batch_size, mask)


def test_measures_and_keeps_all_users_in_order():
    ranker = Fixed(ORDERS)
    found = run(ranker, [4, 9, 9])
    assert ranker.asked == [(2, 4), (1, 4)]
    assert found.ranked.tolist() == [[5, 4, 0, 9], [9, 8, 7, 6], [2, 3, 9, -1]]
    assert found.scores.tolist() == [[10, 9, 8, 7], [10, 9, 8, 7], [10, 9, 8, float("-inf")]]
    ndcg = (1 / np.log2(3) + 1 + 1 / np.log2(4)) / 3
    mrr = (1 / 2 + 1 + 1 / 3) / 3
    expected = {"hr@1": 1 / 3, "hr@3": 1.0, "ndcg@1": 1 / 3, "ndcg@3": ndcg, "mrr@1": 1 / 3, "mrr@3": mrr}
    assert found.metrics == pytest.approx(expected, abs=1e-6)


def test_the_batch_size_changes_nothing():
    runs = [run(Fixed(ORDERS), [4, 9, 9], mask, batch_size=size) for mask in (False, True) for size in (1, 2, 3)]
    for first in (0, 3):
        for other in runs[first + 1 : first + 3]:
            assert other.metrics == runs[first].metrics
            assert torch.equal(other.ranked, runs[first].ranked)
            assert torch.equal(other.scores, runs[first].scores)


def test_masked_histories_leave_room_for_the_next_best():
    ranker = Fixed(ORDERS)
    found = run(ranker, [4, 9, 9], mask=True)
    assert ranker.asked == [(2, 4 + 2), (1, 4 + 2)]  # as many more as the longest history has distinct items
    assert found.ranked.tolist() == [[4, 9, 8, 7], [9, 8, 7, 6], [9, -1, -1, -1]]
    low = float("-inf")
    assert found.scores.tolist() == [[9, 7, 6, 5], [10, 9, 8, 7], [8, low, low, low]]
    assert found.metrics == pytest.approx({f"{name}@{k}": 1.0 for name in ("hr", "ndcg", "mrr") for k in (1, 3)})


def test_a_masked_target_is_no_hit():
    assert run(Fixed(ORDERS), [5, 1, 2], mask=True).metrics["hr@3"] == 0.0
    assert run(Fixed(ORDERS), [5, 1, 2]).metrics["hr@3"] == pytest.approx(2 / 3)


class Broken(Fixed):
    def rank(self, histories: Sequence[np.ndarray], k: int) -> tuple[torch.Tensor, torch.Tensor]:
        ranked, scores = super().rank(histories, k)
        scores[:, 1] = torch.where(torch.tensor([history[0] == 2 for history in histories]), torch.nan, scores[:, 1])
        return ranked, scores


def test_a_nan_score_is_refused_by_user():
    with pytest.raises(ValueError, match="example 2 has a NaN score"):
        run(Broken(ORDERS), [4, 9, 9])


def test_of_an_item_ranked_twice_the_first_place_counts():
    found = run(Fixed(ORDERS | {1: [9, 8, 9]}), [4, 9, 9])
    assert found.metrics == run(Fixed(ORDERS | {1: [9, 8, 7]}), [4, 9, 9]).metrics


def test_ends_of_short_rankings_are_no_repeats():
    found = run(Fixed({0: [1], 1: [], 2: [3]}), [1, 1, 3], depth=5)
    assert found.metrics["hr@1"] == pytest.approx(2 / 3)


def test_no_examples_and_no_depth_are_refused():
    with pytest.raises(ValueError, match="no examples"):
        evaluate(Fixed({}), [], np.array([]), [1])
    with pytest.raises(ValueError, match="cannot give a metric at 3"):
        run(Fixed(ORDERS), [4, 9, 9], depth=2)


def test_both_protocols_measure_all_there_is():
    counts, categories = np.array([3, 1, 2, 0, 1, 5, 1, 1, 2, 4]), [["x"], ["y"], ["x", "y"], *[["z"]] * 7]
    facts = CatalogueFacts.of(counts, 5, categories)
    candidates = np.array([[4, 5, -1], [9, -1, -1], [7, 6, 5]])
    protocols = [Protocol("test", unseen=False), other_protocol("test", mask_history=False)]
    harness = Harness(Fixed(ORDERS), protocols, [1, 3], 4, facts)
    found = [
        harness.step(np.arange(3)[part], HISTORIES[part], np.array([4, 9, 9])[part], candidates[part])
        for part in (slice(0, 2), slice(2, 3))
    ]
    metrics = harness.compute()
    assert set(metrics) == set(found[0]) == {"test", "test_masked"}
    for name, mask in (("test", False), ("test_masked", True)):
        alone = run(Fixed(ORDERS), [4, 9, 9], mask)
        assert {key: metrics[name][key] for key in alone.metrics} == alone.metrics
        assert torch.equal(torch.cat([each[name][0] for each in found]), alone.ranked)
        kinds = {"coverage": Coverage, "gini": Gini, "novelty": Novelty, "diversity": IntraListDiversity}
        for key, kind in kinds.items():
            metric = kind(3, facts)
            metric.update(alone.ranked)
            assert metrics[name][f"{key}@3"] == pytest.approx(float(metric.compute()))
        rows = zip(alone.ranked[:, :5].tolist(), candidates.tolist(), strict=True)
        memorized = sum(item in row for ranked, row in rows for item in ranked if item >= 0)
        assert metrics[name]["memorization@5"] == pytest.approx(memorized / 15)
    assert metrics["test_masked"]["invalid@3"] == pytest.approx(2 / 9) and metrics["test"]["duplicates@3"] == 0.0
    assert other_protocol("test", mask_history=True) == Protocol("test_unmasked", unseen=False)


def test_a_scorer_is_asked_once_for_both():
    class Scores(Scorer):
        asked = 0

        def scores(self, histories):
            self.asked += 1
            return torch.rand(len(histories), 10, generator=torch.Generator().manual_seed(0))

    scorer = Scores()
    harness = Harness(scorer, [Protocol("test", unseen=True), Protocol("test_unmasked", unseen=False)], [3], 4)
    found = harness.step(np.arange(3), HISTORIES, np.array([4, 9, 9]))
    assert scorer.asked == 1
    assert not any(set(row) & set(history) for row, history in zip(found["test"][0].tolist(), HISTORIES, strict=True))
    assert torch.equal(found["test_unmasked"][0], Scores().rank(HISTORIES, 4)[0])
