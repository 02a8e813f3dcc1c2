"""Training windows teach every item but a user's first exactly once, and nothing that is held out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.prompts import PromptBuilder
from datamodules.sequences import HeldOutPrompts, SequenceDataModule, TrainingWindows
from datamodules.splits import Sequences
from dig.config.schema import PromptConfig

TOKENIZER = tiny.text_tokenizer()


def sequences(lengths: list[int]) -> Sequences:
    """Every interaction is an item of its own, so that each can be told from all others."""
    ends = np.cumsum(lengths)
    rows = [np.arange(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    return Sequences([f"u{user}" for user in range(len(lengths))], rows)


def builder(items: int, style: str = "compact", max_history: int = 4) -> PromptBuilder:
    tokens = torch.stack([torch.arange(items) + 100, torch.arange(items) + 10_000], dim=1)
    return PromptBuilder(tokens, TOKENIZER, PromptConfig(style=style, max_history=max_history), from_scratch=False)


lengths = st.lists(st.integers(3, 30), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(lengths, st.integers(1, 12), st.sampled_from(["compact", "text"]))
def test_every_training_item_but_the_first_is_a_target_exactly_once(lengths: list[int], max_history: int, style: str):
    data = sequences(lengths)
    windows = TrainingWindows(data, builder(sum(lengths), style, max_history))
    taught: Counter[int] = Counter()
    for window, count in windows.windows:
        assert 1 <= count < len(window) <= max_history + 1
        user = next(rows for rows in data.train if window[0] in rows)
        start = int(window[0] - user[0])
        assert window.tolist() == user[start : start + len(window)].tolist()  # a piece of one user's training part
        for position in range(len(window) - count, len(window)):
            taught[int(window[position])] += 1
            behind = int(window[position] - user[0])
            # the context is all there is, or at least half of what a prompt holds
            assert position >= min(behind, max(1, (max_history + 1) - max((max_history + 1) // 2, 1)))
            assert style == "compact" or position == min(behind, max_history)
    assert taught == Counter(int(item) for rows in data.train for item in rows[1:])


@settings(max_examples=30, deadline=None)
@given(lengths, st.integers(1, 12), st.sampled_from(["compact", "text"]))
def test_the_labels_of_an_epoch_are_the_targets(lengths: list[int], max_history: int, style: str):
    data = sequences(lengths)
    windows = TrainingWindows(data, builder(sum(lengths), style, max_history))
    if not len(windows):
        assert all(len(rows) < 2 for rows in data.train)
        return
    batch = windows[list(range(len(windows)))]
    labels = batch.labels[batch.labels >= 10_000] - 10_000
    assert sorted(labels.tolist()) == sorted(int(item) for rows in data.train for item in rows[1:])
    held_out = {int(item) for rows in data.rows for item in rows[-2:]}
    seen = batch.input_ids[batch.input_ids >= 10_000] - 10_000
    assert not held_out & set(seen.tolist())


def test_long_sequences_overlap_by_half():
    windows = TrainingWindows(sequences([13]), builder(13, max_history=5)).windows
    assert [(window.tolist(), count) for window, count in windows] == [
        ([0, 1, 2, 3, 4, 5], 5),
        ([3, 4, 5, 6, 7, 8], 3),
        ([5, 6, 7, 8, 9, 10], 2),
    ]


@pytest.mark.parametrize(("split", "cut"), [("valid", -2), ("test", -1)])
def test_held_out_prompts_ask_for_the_right_item(split: str, cut: int):
    data = sequences([3, 9, 5])
    build = builder(17)
    prompts = HeldOutPrompts(data, build, split, np.array([2, 0]))
    assert len(prompts) == 2
    batch = prompts[[0, 1]]
    assert batch.targets.tolist() == [int(data.rows[2][cut]), int(data.rows[0][cut])]
    expected = build.prompts([data.rows[2][:cut], data.rows[0][:cut]])
    assert torch.equal(batch.input_ids, expected.input_ids)
    assert torch.equal(batch.attention_mask, expected.attention_mask)
    assert prompts[[1]].targets.tolist() == [int(data.rows[0][cut])]


def test_the_datamodule_deals_all_windows_and_a_fixed_subset_of_users():
    data = sequences([12, 3, 7, 4, 9, 5])
    modules = [SequenceDataModule(data, builder(40), 2, 3, 2, seed=seed) for seed in (0, 1)]
    rows = [[tuple(row.tolist()) for batch in module.train_dataloader() for row in _unpadded(batch)]
            for module in modules]  # fmt: skip
    assert sorted(rows[0]) == sorted(rows[1]) and rows[0] != rows[1]  # the seed decides the order alone
    assert len(rows[0]) == len(modules[0].training_set())
    targets = [torch.cat([batch.targets for batch in module.val_dataloader()]).tolist() for module in modules]
    assert targets[0] == targets[1] == data.targets("valid")[data.sample_users(3, seed=0)].tolist()
    everybody = SequenceDataModule(data, builder(40), 2, None, 4, seed=0)
    batches = [batch.targets.tolist() for batch in everybody.val_dataloader()]
    assert batches == [data.targets("valid")[:4].tolist(), data.targets("valid")[4:].tolist()]


def _unpadded(batch: object) -> list[torch.Tensor]:
    return [row[mask.bool()] for row, mask in zip(batch.input_ids, batch.attention_mask, strict=True)]
