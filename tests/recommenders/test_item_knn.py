"""Item-kNN against loops over its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.histories import Histories
from dig.config import UserError
from dig.recommenders.item_knn import ItemKNN, ItemKNNConfig, cosine_neighbours

RANDOM = np.random.default_rng(0)
TRAIN = Histories.from_lists([RANDOM.integers(0, 12, RANDOM.integers(2, 9)) for _ in range(40)])
HISTORIES = [np.array([1, 2, 3]), np.array([4]), np.array([5, 5, 0])]


def obvious(shrinkage: float) -> np.ndarray:
    baskets = [set(row.tolist()) for row in TRAIN]
    users = [sum(item in basket for basket in baskets) for item in range(13)]
    found = np.zeros((13, 13))
    for one in range(13):
        for other in range(13):
            common = sum(one in basket and other in basket for basket in baskets)
            if one != other and common:
                found[one, other] = common / (users[one] * users[other]) ** 0.5 * common / (common + shrinkage)
    return found


@pytest.mark.parametrize("shrinkage", [0.0, 5.0])
def test_similarities(shrinkage: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dig.recommenders.item_knn._CHUNK", 5)
    found = cosine_neighbours(TRAIN, 13, 13, shrinkage).toarray()  # item 12 was never bought
    np.testing.assert_allclose(found, obvious(shrinkage), rtol=1e-6)


def test_the_nearest_are_kept():
    whole, few = obvious(5.0), cosine_neighbours(TRAIN, 13, 3, 5.0).toarray()
    assert (np.count_nonzero(few, axis=1) <= 3).all()
    for item in range(12):
        np.testing.assert_allclose(np.sort(few[item])[-3:], np.sort(whole[item])[-3:], rtol=1e-6)


def test_later_items_count_more_and_the_rest_follows_by_popularity():
    knn = ItemKNN.fit(TRAIN, 13, ItemKNNConfig(neighbours=4, shrinkage=0.0, decay=0.5))
    scores, similarity = knn.scores(HISTORIES), knn.similarity.toarray()
    counts = np.bincount(TRAIN.flat(), minlength=13)
    for row, history in enumerate(HISTORIES):
        expected = sum(0.5**age * similarity[item] for age, item in enumerate(history[::-1]))
        known = expected > 0
        np.testing.assert_allclose(scores[row].numpy()[known], expected[known], rtol=1e-5)
        rest = np.flatnonzero(~known)
        assert (scores[row].numpy()[rest] <= -1).all()
        order = rest[np.argsort(-scores[row].numpy()[rest], kind="stable")]
        assert order.tolist() == sorted(rest.tolist(), key=lambda item: (-counts[item], item))
    assert (knn.rank(HISTORIES, 13)[0] >= 0).all()  # never short


def test_saved_and_loaded_it_scores_the_same(tmp_path: Path):
    knn = ItemKNN.fit(TRAIN, 13, ItemKNNConfig())
    knn.save(tmp_path / "model")
    assert torch.equal(ItemKNN.load(tmp_path / "model").scores(HISTORIES), knn.scores(HISTORIES))


@pytest.mark.parametrize("wrong", [{"neighbours": 0}, {"shrinkage": -1.0}, {"decay": 1.5}, {"decay": 0.0}])
def test_what_cannot_be_is_refused(wrong: dict[str, float]):
    with pytest.raises(UserError, match=rf"item_knn\.{next(iter(wrong))}"):
        ItemKNNConfig(**wrong)
