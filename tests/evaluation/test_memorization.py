"""One-hop candidates against a loop over the definition, and the memorization ratio."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from datamodules.splits import Sequences
from dig.evaluation.memorization import MemorizationRatio, beneficiaries, one_hop_candidates, successor_counts


def sequences(users: int = 60, items: int = 15, seed: int = 0) -> Sequences:
    random = np.random.default_rng(seed)
    rows = [random.integers(0, items, random.integers(3, 12)) for _ in range(users)]
    return Sequences.from_lists([f"u{user}" for user in range(users)], rows)


def obvious(train: list[list[int]], history: list[int], size: int) -> list[int]:
    followed: Counter = Counter()
    for row in train:
        followed.update(row[1:])
    found: Counter = Counter()
    for item in set(history):
        for row in train:
            found.update(second for first, second in pairwise(row) if first == item)
    return sorted(found, key=lambda item: (-found[item], -followed[item], item))[:size]


@pytest.mark.parametrize("size", [3, 50])
def test_candidates_are_the_most_frequent_direct_successors(size: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dig.evaluation.memorization._CHUNK", 7)
    data = sequences()
    train = [row.tolist() for row in data.train]
    examples = data.held_out("test")
    found = one_hop_candidates(successor_counts(data.train, 15), examples.histories, size)
    assert found.shape == (len(examples), size)
    for row, history in zip(found.tolist(), examples.histories, strict=True):
        expected = obvious(train, history.tolist(), size)
        assert row == expected + [-1] * (size - len(expected))


def test_successors_never_cross_users_nor_see_held_out_items():
    data = Sequences.from_lists(["u", "v"], [[0, 1, 2, 3], [4, 0, 5, 6]])
    counts = successor_counts(data.train, 7).toarray()
    assert np.argwhere(counts).tolist() == [[0, 1], [4, 0]]


def test_beneficiaries_have_their_target_among_the_candidates():
    candidates = np.array([[1, 2, -1], [3, -1, -1], [-1, -1, -1]])
    assert beneficiaries(candidates, np.array([2, 1, 0])).tolist() == [True, False, False]


def test_the_ratio_is_the_share_of_the_first_places_inside():
    metric = MemorizationRatio(3)
    metric.update(torch.tensor([[1, 9, 2, 3], [-1, 4, 5, 6]]), torch.tensor([[1, 2, 3, -1], [7, -1, -1, -1]]))
    assert float(metric.compute()) == torch.tensor(2 / 6)
    metric.update(torch.tensor([[7, 7, 7]]), torch.tensor([[7]]))
    assert float(metric.compute()) == torch.tensor(5 / 9)
