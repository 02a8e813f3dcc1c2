"""Histories by number: every training item but a user's first is a target once, held-out items are none."""

from __future__ import annotations

import numpy as np
import torch

from datamodules.item_sequences import ItemSequences
from datamodules.splits import Sequences

DATA = Sequences.from_lists(["u", "v", "w"], [np.arange(0, 11), np.arange(11, 15), np.arange(15, 18)])


def test_every_training_item_but_the_first_is_a_target_once():
    data = ItemSequences(DATA, max_history=4, batch_size=2, valid_users=None, seed=0)
    learned = []
    for batch in data.train_dataloader():
        there = batch.targets >= 0
        assert (batch.targets[there] == batch.histories[there] + 1).all()  # each follows its item
        learned += batch.targets[there].tolist()
    assert sorted(learned) == [*range(1, 9), 12]


def test_validation_asks_for_the_held_out_item():
    data = ItemSequences(DATA, max_history=4, batch_size=2, valid_users=None, seed=0)
    (batch,) = list(data.val_dataloader())
    assert batch.targets.tolist() == [9, 13, 16]
    assert batch.histories.tolist() == [[5, 6, 7, 8], [-1, -1, 11, 12], [-1, -1, -1, 15]]
    assert batch.samples.tolist() == [0, 1, 2] and batch.histories.dtype == torch.int64
