"""Scorers: ties by the catalogue, histories left out, both rankings of one scoring."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dig.evaluation.rankers import Scorer, padded_rows, rank_unseen, top_items

LOW = float("-inf")


def obvious(scores: list[float], k: int, banned: set[int] = frozenset()) -> tuple[list[int], list[float]]:
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item))
    kept = [item for item in order if item not in banned and scores[item] != LOW][:k]
    fill = k - len(kept)
    return kept + [-1] * fill, [scores[item] for item in kept] + [LOW] * fill


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.data())
def test_equal_scores_come_in_catalogue_order(k: int, data: st.DataObject):
    few = st.sampled_from([-2.0, 0.0, 0.5, 0.5, 3.0, LOW])
    rows = data.draw(st.lists(st.lists(few, min_size=9, max_size=9), min_size=1, max_size=5))
    ranked, values = top_items(torch.tensor(rows), k)
    for row, scores in enumerate(rows):
        assert (ranked[row].tolist(), values[row].tolist()) == obvious(scores, k)


class Fixed(Scorer):
    def __init__(self, table: torch.Tensor) -> None:
        self.table, self.asked = table, 0

    def scores(self, histories):
        self.asked += 1
        return self.table[[int(history[0]) for history in histories]]


HISTORIES = [np.array([0, 3]), np.array([1]), np.array([2, 2, 5, 0, 1, 3, 4, 6])]


def test_both_rankings_come_from_one_scoring():
    table = torch.randint(0, 4, (3, 7), generator=torch.Generator().manual_seed(0)).float()
    scorer = Fixed(table)
    kept, unseen = scorer.rank_both(HISTORIES, 5)
    assert scorer.asked == 1
    for row, history in enumerate(HISTORIES):
        assert kept[0][row].tolist() == obvious(table[row].tolist(), 5)[0]
        assert (unseen[0][row].tolist(), unseen[1][row].tolist()) == obvious(table[row].tolist(), 5, set(history))
    for alone, together in ((scorer.rank, kept), (scorer.rank_unseen, unseen)):
        assert all(torch.equal(*each) for each in zip(alone(HISTORIES, 5), together, strict=True))
    assert torch.equal(scorer.table, table)  # what is left out is left out of a copy


def test_a_ranker_that_cannot_leave_out_is_asked_for_more():
    class Plain:
        def rank(self, histories, k):
            return top_items(Fixed.scores(self, histories), k)

        table = torch.rand(3, 7, generator=torch.Generator().manual_seed(1))
        asked = 0

    ranked, scores = rank_unseen(Plain(), HISTORIES, 4)
    expected = Fixed(Plain.table).rank_unseen(HISTORIES, 4)
    assert torch.equal(ranked, expected[0]) and torch.equal(scores, expected[1])


@pytest.mark.parametrize("histories", [[[1, 2], [3]], [[5]], [[], [4, 4, 0]]])
def test_padded_rows(histories: list[list[int]]):
    longest = max(1, *(len(history) for history in histories))
    expected = [history + [-1] * (longest - len(history)) for history in histories]
    assert padded_rows([np.array(history, dtype=np.int32) for history in histories]).tolist() == expected


NAN = float("nan")


@pytest.mark.parametrize(
    ("row", "k"), [([1.0, NAN, 0.0], 2), ([NAN, 1.0, 1.0], 2), ([NAN, NAN, 1.0, 1.0], 3), ([1.0, 1.0, NAN], 1)]
)
def test_nan_reaches_the_ranking_so_that_the_harness_can_refuse_it(row: list[float], k: int):
    tied = [1.0] * len(row)  # of another user, who is ranked as ever
    items, scores = top_items(torch.tensor([row, tied]), k)
    assert scores[0].isnan().any()
    assert items[1].tolist() == list(range(k)) and scores[1].tolist() == tied[:k]
