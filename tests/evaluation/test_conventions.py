"""Eight users, nine toolkits: what dig measures of one ranked list each, and why other toolkits print other numbers.

The table of docs/evaluation.md is made of these formulas. Targets are at places 1, 2, 3, 5, 10 and 11, one is not in
its list, and one user has no list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import log2
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from support.run_folders import write_run
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR, RetrievalNormalizedDCG

from dig.comparison.contest import find_contests
from dig.comparison.measure import measure
from dig.comparison.request import ComparisonRequest
from dig.evaluation import MRR, NDCG, HitRate, Scorer, evaluate
from dig.evaluation.paired import metric_gains
from dig.evaluation.ranking import target_positions

PLACES = (1, 2, 3, 5, 10, 11, None, None)
"""From 1 on; the last user has no list at all."""
K = 10
HITS = [place for place in PLACES if place is not None and place <= K]
PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def ranked() -> torch.Tensor:
    """(users, 12) item rows: the target of every user is item 0."""
    rows = torch.arange(1, 13).repeat(len(PLACES), 1)
    for user, place in enumerate(PLACES):
        if place is not None:
            rows[user, place - 1] = 0
    rows[-1] = -1
    return rows


def discounted(discount: Callable[[int], float]) -> float:
    return sum(1 / discount(place) for place in HITS)


def ours(metric: HitRate | NDCG | MRR) -> float:
    metric.update(ranked(), torch.zeros(len(PLACES), dtype=torch.int64))
    return float(metric.compute())


def test_dig_counts_all_eight_users():
    assert ours(HitRate(K)) == pytest.approx(5 / 8)
    assert ours(NDCG(K)) == pytest.approx(discounted(lambda place: log2(place + 1)) / 8)
    assert ours(MRR(K)) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 5 + 1 / 10) / 8)
    printed = [f"{ours(metric):.4f}" for metric in (HitRate(K), NDCG(K), MRR(K))]
    assert printed == ["0.6250", "0.3509", "0.2667"]


def test_comparisons_and_the_harness_count_the_same():
    """The gains of intervals and tables, and an evaluation of a ranker, are those of the metrics."""
    positions = target_positions(ranked(), torch.zeros(len(PLACES), dtype=torch.int64)).numpy()
    for name, metric in (("hr@10", HitRate(K)), ("ndcg@10", NDCG(K)), ("mrr@10", MRR(K))):
        assert metric_gains(name, positions).mean() == pytest.approx(ours(metric))

    class Given:
        def rank(self, histories: Sequence[np.ndarray], k: int) -> tuple[torch.Tensor, torch.Tensor]:
            return ranked()[:, :k], torch.zeros(len(histories), k)

    found = evaluate(Given(), [np.array([13])] * 8, np.zeros(8, dtype=np.int64), [K], depth=12)
    assert [f"{found.metrics[f'{family}@10']:.4f}" for family in ("hr", "ndcg", "mrr")] == [
        "0.6250",
        "0.3509",
        "0.2667",
    ]


def test_a_file_of_the_same_lists_gives_the_same_numbers(tmp_path: Path):
    """Read from another program's file the eight users are measured so, with the user without a list as a miss."""
    users, items = [f"u{user}" for user in range(8)], [f"i{item}" for item in range(13)]
    write_run(tmp_path / "runs/eight/a1", users, ["i0"] * 8, {"popularity": [items[1:]] * 8}, catalogue=items)
    lists = [[items[row] for row in rows if row >= 0] for rows in ranked().tolist()]
    theirs = pl.DataFrame({"user": users[:7], "items": lists[:7]})
    request = ComparisonRequest(
        ("eight",), tables={"theirs": theirs}, root=tmp_path / "runs", metrics=("hr@10", "ndcg@10", "mrr@10")
    )
    for missing, expected in (("miss", ["0.6250", "0.3509", "0.2667"]), ("drop", ["0.7143", "0.4010", "0.3048"])):
        (contest,) = find_contests(ComparisonRequest(**(vars(request) | {"missing": missing})))
        cells = measure(contest, draws=200, seed=0).cells[1]
        assert [f"{cell.value.mean:.4f}" for cell in cells] == expected


OTHERS = {
    "left out of the mean: HR": (5 / 7, ".7143"),
    "left out of the mean: MRR": ((1 + 1 / 2 + 1 / 3 + 1 / 5 + 1 / 10) / 7, ".3048"),
    "left out of the mean: NDCG": (discounted(lambda place: log2(place + 1)) / 7, ".4010"),
    "places 1 and 2 pay alike": (discounted(lambda place: max(log2(place), 1.0)) / 7, ".4804"),
    "divided by an ideal of ten hits": (
        discounted(lambda place: log2(place + 1)) / sum(1 / log2(place + 1) for place in range(1, K + 1)) / 8,
        ".0772",
    ),
}


@pytest.mark.parametrize("convention", OTHERS)
def test_each_number_that_differs_has_a_formula(convention: str):
    """Which convention gives LensKit's, torchmetrics' and RecTools' numbers; the page shows the same digits."""
    value, printed = OTHERS[convention]
    assert f"{value:.4f}"[1:] == printed
    table = re.search(r"\n\| toolkit \|.*?\n\n", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert table is not None and printed in table[0]


def test_torchmetrics_leaves_out_whom_it_is_not_told_of():
    """.7143, .4010 and .3048 are the installed torchmetrics' numbers for the seven users who have lists."""
    rows = ranked()[:-1]
    scores = torch.arange(12, 0, -1).float().expand(7, -1)
    relevant, users = rows == 0, torch.arange(7).unsqueeze(1).expand(7, 12)
    for metric, printed in (
        (RetrievalHitRate(top_k=K), "0.7143"),
        (RetrievalNormalizedDCG(top_k=K), "0.4010"),
        (RetrievalMRR(top_k=K), "0.3048"),
    ):
        assert f"{float(metric(scores.flatten(), relevant.flatten(), indexes=users.flatten())):.4f}" == printed


class Constant(Scorer):
    """Knows nothing: every item has the same score."""

    def __init__(self, items: int, score: float = 0.0) -> None:
        self.table = torch.full((items,), score)

    def scores(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        return self.table.expand(len(histories), -1).clone()


@pytest.mark.parametrize("items", [7, 15, 16, 100, 1000])
@pytest.mark.parametrize("k", [1, 5, 10])
def test_a_constant_scorer_hits_the_first_k_of_the_catalogue(items: int, k: int):
    """Equal scores come in catalogue order, so its HR@K over one user per item is K / items, whatever the number."""
    targets = np.arange(items)
    found = evaluate(Constant(items), [np.array([0])] * items, targets, [k], batch_size=37).metrics
    hits = min(k, items)
    assert found[f"hr@{k}"] == pytest.approx(hits / items)
    assert found[f"mrr@{k}"] == pytest.approx(sum(1 / place for place in range(1, hits + 1)) / items)
    assert found[f"ndcg@{k}"] == pytest.approx(sum(1 / log2(place + 1) for place in range(1, hits + 1)) / items)


def test_a_constant_scorer_without_the_history():
    """The history's items leave their places to the next of the catalogue."""
    histories = [np.array([0, 1]), np.array([5]), np.array([2, 0])]
    found = evaluate(Constant(6), histories, np.array([2, 5, 1]), [1, 2], mask_history=True)
    assert found.ranked.tolist() == [[2, 3], [0, 1], [1, 3]]
    assert found.metrics["hr@1"] == pytest.approx(2 / 3)


def test_fewer_candidates_than_k_are_short_lists_not_wrong_ones():
    found = evaluate(Constant(3), [np.array([0]), np.array([1, 2])], np.array([2, 0]), [10], mask_history=True)
    assert found.ranked[:, :4].tolist() == [[1, 2, -1, -1], [0, -1, -1, -1]]
    assert bool((found.ranked[:, 4:] == -1).all()) and found.ranked.shape == (2, 10)
    assert found.metrics["mrr@10"] == pytest.approx((1 / 2 + 1) / 2)


@pytest.mark.parametrize("user", [0, 2])
def test_a_nan_is_refused_with_the_number_of_its_example(user: int):
    class Broken(Constant):
        def scores(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
            table = super().scores(histories)
            for row, history in enumerate(histories):
                if history[0] == user:
                    table[row, 1] = float("nan")
            return table

    histories = [np.array([number]) for number in range(3)]
    with pytest.raises(ValueError, match=f"example {user} has a NaN score"):
        evaluate(Broken(4), histories, np.array([1, 2, 3]), [2], batch_size=1)


def test_infinite_scores_have_places_or_none():
    """+inf is the best score, -inf is not an item: a target scored so is a miss."""

    class Infinite(Constant):
        def scores(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
            return torch.tensor([[0.0, float("inf"), float("-inf"), float("inf")]]).repeat(len(histories), 1)

    found = evaluate(Infinite(4), [np.array([0])] * 2, np.array([3, 2]), [4])
    assert found.ranked.tolist() == [[1, 3, 0, -1]] * 2
    assert found.metrics["hr@4"] == 0.5 and found.metrics["mrr@4"] == 0.25
