"""GRPO's prompts: the latest training items, each with its own target, never a held-out item."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny

from datamodules.prompts import PromptBuilder, SidPrompts
from datamodules.rollout_prompts import PromptDataModule, TrainingPrompts
from datamodules.splits import Sequences
from dig.config.schema import PromptConfig

TOKENIZER = tiny.text_tokenizer()


def builder(items: int, max_history: int = 50) -> PromptBuilder:
    tokens = torch.arange(items).unsqueeze(1) + 100
    return SidPrompts(tokens, TOKENIZER, PromptConfig("compact", max_history), from_scratch=False)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=12), min_size=1, max_size=5), st.integers(1, 4))
def test_prompts_are_the_latest_training_items_with_what_came_before(users: list[list[int]], per_user: int):
    data = Sequences.from_lists([str(user) for user in range(len(users))], [np.array(items) for items in users])
    prompts = TrainingPrompts(data, builder(31), per_user)
    expected = []
    for items in users:
        train = items[:-2]
        found = [(train[:end], train[end]) for end in range(1, len(train))]
        expected += found[-per_user:]
    assert len(prompts) == len(expected)
    for index, (history, target) in enumerate(expected):
        batch = prompts[[index]]
        assert batch.input_ids[0].tolist() == [1, *(item + 100 for item in history)]
        assert batch.targets.tolist() == [target]


def test_held_out_items_never_appear():
    data = Sequences.from_lists(["u", "v", "w"], [np.arange(0, 9), np.arange(9, 12), np.arange(12, 17)])
    prompts = TrainingPrompts(data, builder(17), per_user=99)
    held_out = {7, 8, 10, 11, 15, 16}
    batch = prompts[list(range(len(prompts)))]
    assert not held_out & set((batch.input_ids[batch.input_ids >= 100] - 100).tolist())
    assert not held_out & set(batch.targets.tolist())
    assert len(prompts) == 6 + 0 + 2


def test_users_with_the_same_history_keep_their_own_targets():
    data = Sequences.from_lists(["u", "v"], [np.array([1, 2, 3, 0, 0]), np.array([1, 2, 4, 0, 0])])
    batch = TrainingPrompts(data, builder(5), per_user=1)[[0, 1]]
    assert torch.equal(batch.input_ids[0], batch.input_ids[1])
    assert batch.targets.tolist() == [3, 4]


def test_the_datamodule_trains_on_prompts_and_validates_on_the_held_out_item():
    data = Sequences.from_lists(["u", "v"], [np.arange(0, 8), np.arange(8, 14)])
    module = PromptDataModule(TrainingPrompts(data, builder(14), 2), data, builder(14), 3, None, 10, seed=4)
    targets = torch.cat([batch.targets for batch in module.train_dataloader()])
    assert sorted(targets.tolist()) == [4, 5, 10, 11]
    assert [batch.targets.tolist() for batch in module.val_dataloader()] == [[6, 12]]
