"""Slices are labelled from the training part alone."""

from __future__ import annotations

import numpy as np

from datamodules.splits import Sequences, label_slices


def test_by_hand():
    # item 0 stands seven times in training, item 1 once, item 2 never
    rows = [[0] * 4 + [1, 2, 0], [0, 0, 0, 1, 1], [3] * 21 + [2]]
    found = label_slices(Sequences.from_lists(list("uvw"), rows), 4)
    assert found.columns == ["part", "target_slice", "history_slice"]
    assert found.rows() == [
        ("valid", "cold", "5-9"),
        ("valid", "rare", "1-4"),
        ("valid", "warm", "20+"),
        ("test", "warm", "5-9"),
        ("test", "rare", "1-4"),
        ("test", "cold", "20+"),
    ]


def test_lengths_at_the_borders():
    rows = [np.zeros(length + 1, int) for length in (2, 4, 5, 9, 10, 19, 20, 60)]
    found = label_slices(Sequences.from_lists([str(i) for i in range(8)], rows), 1)
    test = found.filter(found["part"] == "test")["history_slice"].to_list()
    assert test == ["1-4", "1-4", "5-9", "5-9", "10-19", "10-19", "20+", "20+"]
