"""Places that are not recommendations."""

from __future__ import annotations

import torch

from dig.evaluation.measures import DuplicateShare, InvalidShare


def test_places_without_an_item_of_the_catalogue():
    metric = InvalidShare(3, items=5)
    metric.update(torch.tensor([[0, 1, 2, -1], [4, -1, -1, -1], [5, 9, 0, 1]]))
    assert float(metric.compute()) == torch.tensor(4 / 9)
    short = InvalidShare(4, items=5)
    short.update(torch.tensor([[0, 1], [2, -1]]))  # fewer than K recommendations
    assert float(short.compute()) == torch.tensor(5 / 8)


def test_places_that_repeat_an_item():
    metric = DuplicateShare(4, items=9)
    metric.update(torch.tensor([[7, 7, 7, 1, 1], [1, 2, 3, 4, 4], [5, 6, 5, -1, -1]]))
    assert float(metric.compute()) == torch.tensor(3 / 12)
    assert float(DuplicateShare(4, items=9).compute()) == 0.0
