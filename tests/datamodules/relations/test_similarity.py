"""Neighbours by meaning: exact against the plain computation, and what cells find of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.relations import nearest_in_cells, search_recall, semantic_neighbours
from datamodules.relations.similarity import _top


def vectors(items: int, dim: int = 8, groups: int = 6, seed: int = 0) -> Tensor:
    """Points around a few centres, of any length."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(groups, dim, generator=generator)
    points = centres[torch.arange(items) % groups] + 0.4 * torch.randn(items, dim, generator=generator)
    return points * torch.rand(items, 1, generator=generator).add(0.5)


def plain(points: Tensor, keep: int) -> np.ndarray:
    similarity = F.cosine_similarity(points[:, None].double(), points[None].double(), dim=2)
    similarity.fill_diagonal_(-2)
    return similarity.argsort(dim=1, descending=True)[:, :keep].numpy()


@pytest.mark.parametrize("elements", [1, 1 << 24])
def test_blocks_find_what_the_whole_matrix_finds(monkeypatch: pytest.MonkeyPatch, elements: int):
    monkeypatch.setattr("datamodules.relations.similarity._ELEMENTS", elements)
    monkeypatch.setattr("datamodules.relations.similarity._LEAST_ROWS", 7)
    points = vectors(430)
    np.testing.assert_array_equal(semantic_neighbours(points, keep=4), plain(points, 4))


def test_length_does_not_count():
    points = vectors(50)
    points[3] = 5 * points[11]
    found = semantic_neighbours(points, keep=4)
    assert found[3, 0] == 11 and found[11, 0] == 3


def test_a_small_catalogue_has_fewer():
    found = semantic_neighbours(vectors(3), keep=4)
    assert found.shape == (3, 4) and (found[:, 2:] == -1).all() and (found[:, :2] >= 0).all()
    assert nearest_in_cells(vectors(3), keep=4, cells=2, probes=2).tolist() == found.tolist()


@pytest.mark.parametrize("width", [5, 37, 400, 403])
def test_folded_columns_give_the_largest_of_all(width: int):
    values = torch.randn(9, width, generator=torch.Generator().manual_seed(width))
    found, expected = _top(values, 4), values.topk(4, dim=1)
    assert torch.equal(found[0], expected.values) and torch.equal(found[1], expected.indices)


@pytest.mark.parametrize("elements", [64, 1 << 24])
def test_all_cells_together_are_exact(monkeypatch: pytest.MonkeyPatch, elements: int):
    monkeypatch.setattr("datamodules.relations.similarity._ELEMENTS", elements)
    points = vectors(300)
    np.testing.assert_array_equal(nearest_in_cells(points, 6, probes=9, cells=9), plain(points, 6))


def test_few_cells_find_most_and_more_find_more():
    points = vectors(900, dim=8, groups=3)
    exact = semantic_neighbours(points, 5)
    one, three = (nearest_in_cells(points, 5, probes=probes, cells=30) for probes in (1, 3))
    recalls = [search_recall(points, found, sample=900) for found in (one, three, exact)]
    assert 0.4 < recalls[0] < recalls[1] < recalls[2] == 1.0
    slow = np.mean([len(set(row) & set(true)) / 5 for row, true in zip(one.tolist(), exact.tolist(), strict=True)])
    assert recalls[0] == pytest.approx(slow, abs=1e-6)


def test_an_item_is_never_its_own_neighbour_nor_named_twice():
    points = torch.cat([vectors(60)] * 3)  # every item has two others of the same vector
    for found in (semantic_neighbours(points, 5), nearest_in_cells(points, 5, probes=2, cells=10)):
        for item, row in enumerate(found.tolist()):
            there = [other for other in row if other >= 0]
            assert item not in there and len(there) == len(set(there))
        assert ((found[:, :2] - np.arange(180)[:, None]) % 60 == 0).all()


def test_the_same_cells_every_time():
    points = vectors(500)
    np.testing.assert_array_equal(nearest_in_cells(points, 5, probes=2), nearest_in_cells(points, 5, probes=2))
