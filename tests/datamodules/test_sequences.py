"""Prompts of held-out examples, and what the data module deals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import tiny

from datamodules.prompts import PromptBuilder, SidPrompts
from datamodules.sequences import HeldOutPrompts
from datamodules.splits import Sequences
from dig.config.schema import PromptConfig

TOKENIZER = tiny.text_tokenizer()


def sequences(lengths: list[int]) -> Sequences:
    """Every interaction is an item of its own, so that each can be told from all others."""
    ends = np.cumsum(lengths)
    rows = [np.arange(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    return Sequences.from_lists([f"u{user}" for user in range(len(lengths))], rows)


def builder(items: int, style: str = "compact", max_history: int = 4) -> PromptBuilder:
    tokens = torch.stack([torch.arange(items) + 100, torch.arange(items) + 10_000], dim=1)
    return SidPrompts(tokens, TOKENIZER, PromptConfig(style=style, max_history=max_history), from_scratch=False)


@pytest.mark.parametrize(("part", "cut"), [("valid", -2), ("test", -1)])
def test_held_out_prompts_ask_for_the_right_item(part: str, cut: int):
    data = sequences([3, 9, 5])
    build = builder(17)
    prompts = HeldOutPrompts(data.held_out(part).take(np.array([2, 0])), build)
    assert len(prompts) == 2
    batch = prompts[[0, 1]]
    assert batch.targets.tolist() == [int(data.rows[2][cut]), int(data.rows[0][cut])]
    expected = build.prompts([data.rows[2][:cut], data.rows[0][:cut]])
    assert torch.equal(batch.input_ids, expected.input_ids)
    assert torch.equal(batch.attention_mask, expected.attention_mask)
    assert prompts[[1]].targets.tolist() == [int(data.rows[0][cut])]


def test_the_datamodule_deals_all_windows_and_a_fixed_subset_of_users():
    data = sequences([12, 3, 7, 4, 9, 5])
    modules = [tiny.sequence_data(data, builder(40), 2, 3, 2, seed=seed) for seed in (0, 1)]
    rows = [
        [tuple(row.tolist()) for batch in module.train_dataloader() for row in _unpadded(batch)] for module in modules
    ]
    assert sorted(rows[0]) == sorted(rows[1]) and rows[0] != rows[1]  # the seed decides the order alone
    assert len(rows[0]) == len(modules[0].training_set())
    examples = data.held_out("valid")
    targets = [torch.cat([batch.targets for batch in module.val_dataloader()]).tolist() for module in modules]
    assert targets[0] == targets[1] == examples.targets[examples.sample(3, seed=0)].tolist()
    everybody = tiny.sequence_data(data, builder(40), 2, None, 4, seed=0)
    batches = [batch.targets.tolist() for batch in everybody.val_dataloader()]
    assert batches == [examples.targets[:4].tolist(), examples.targets[4:].tolist()]


def _unpadded(batch: object) -> list[torch.Tensor]:
    return [row[mask.bool()] for row, mask in zip(batch.input_ids, batch.attention_mask, strict=True)]
