"""Prompts of models that read one vector an item: rows of the catalogue, and tokens of tasks behind them."""

from __future__ import annotations

import numpy as np
import tiny

from datamodules.prompts import ItemPrompts
from datamodules.sequences import training_windows
from datamodules.tasks import ItemTexts, TaskSource
from dig.config.schema import PromptConfig


def test_a_history_is_its_latest_items_and_nothing_else():
    prompts = ItemPrompts(24, PromptConfig(max_history=3)).prompts([np.array([5, 1, 9, 2]), np.array([7])])
    assert prompts.input_ids.tolist() == [[1, 9, 2], [7, 0, 0]]
    assert prompts.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_relation_is_its_task_an_item_and_the_neighbours():
    builder = ItemPrompts(4, PromptConfig(max_history=8))
    sequences = tiny.cyclic_sequences(6, 4)
    near = np.array([[1, 2, 3], [0, -1, -1], [-1, -1, -1], [2, 1, -1]])
    known = ItemTexts(collaborative=near, semantic=near[::-1])
    windows = training_windows(sequences, builder)
    for name, first, rows in (("collaborative", 4, {0: [1, 2, 3], 1: [0], 3: [2, 1]}),
                              ("semantic", 5, {0: [2, 1], 2: [0], 3: [1, 2, 3]})):  # fmt: skip
        samples = TaskSource(name, builder, windows, known, seed=0).take(slice(None))
        assert [row.tolist() for row in samples.tokens] == [[first, item, *named] for item, named in rows.items()]
        assert samples.supervised.tolist() == samples.responses.tolist() == [len(named) for named in rows.values()]
