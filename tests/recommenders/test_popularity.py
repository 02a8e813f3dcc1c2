"""Popularity counts the training part and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from datamodules.histories import Histories
from datamodules.splits import Sequences
from dig.evaluation import evaluate
from dig.recommenders.popularity import Popularity

TRAIN = Histories.from_lists([[3, 1, 3], [1, 3], [0, 4]])


def test_ranks_by_count_and_ties_by_catalogue_order():
    ranked, scores = Popularity.fit(TRAIN, 6).rank([np.array([2]), np.array([3, 1])], 5)
    assert ranked.tolist() == [[3, 1, 0, 4, 2]] * 2
    assert scores.tolist() == [[3.0, 2.0, 1.0, 1.0, 0.0]] * 2


def test_a_longer_ranking_than_the_catalogue_ends_in_minus_one():
    ranked, scores = Popularity.fit(TRAIN, 5).rank([np.array([2])], 7)
    assert ranked.tolist() == [[3, 1, 0, 4, 2, -1, -1]]
    assert torch.isneginf(scores[:, 5:]).all() and torch.isfinite(scores[:, :5]).all()


def test_held_out_items_do_not_count():
    sequences = Sequences.from_lists(["u", "v"], [np.array([0, 1, 2, 2]), np.array([1, 0, 2, 2])])
    assert Popularity.fit(sequences.train, 3).counts.tolist() == [2, 2, 0]


def test_is_measured_by_the_harness():
    ranker = Popularity.fit(TRAIN, 6)
    histories, targets = [np.array([3]), np.array([1])], np.array([1, 5])
    plain = evaluate(ranker, histories, targets, [1, 2], 3, 1, mask_history=False)
    assert plain.metrics["hr@1"] == 0.0 and plain.metrics["hr@2"] == 0.5
    masked = evaluate(ranker, histories, targets, [1, 2], 3, 1, mask_history=True)
    assert masked.metrics["hr@1"] == 0.5
    assert masked.ranked.tolist() == [[1, 0, 4], [3, 0, 4]]


def test_saved_and_loaded_it_is_the_same(tmp_path: Path):
    Popularity.fit(TRAIN, 6).save(tmp_path / "model")
    assert Popularity.load(tmp_path / "model").counts.tolist() == [1, 2, 0, 3, 1, 0]
