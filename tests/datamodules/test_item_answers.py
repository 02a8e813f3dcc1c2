"""Histories with their next item as tokens: laid out by hand, each answer once, rows that lose and add nothing."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.histories import Histories
from datamodules.item_sequences import AnswerBatch, HistoryTokens, ItemAnswers
from datamodules.splits import Sequences

ITEMS = torch.tensor([[2, 5, -1], [2, 6, 8], [2, 6, 9], [3, 5, -1], [4, 7, -1]])
TOKENS = HistoryTokens(ITEMS, max_history=3, pad_id=0)
DATA = Sequences.from_lists(["u", "v", "w"], [np.arange(0, 11), np.arange(11, 15), np.arange(15, 18)])
PLAIN = HistoryTokens(torch.arange(100, 154).view(18, 3), max_history=4, pad_id=0)


def histories(*rows: list[int]) -> Histories:
    return Histories.from_lists([np.array(row, dtype=np.int64) for row in rows])


def data(**named: int) -> ItemAnswers:
    settings = {"batch_size": 3, "valid_users": None, "valid_batch_size": 2, "seed": 0} | named
    return ItemAnswers(DATA, PLAIN, **settings)


def taught(batch: AnswerBatch) -> list[tuple[list[int], list[int]]]:
    """History and answer of each sample of a batch, as tokens, read back out of the rows."""
    found = []
    for tokens, segments, answers in zip(batch.input_ids, batch.segments, batch.answers, strict=True):
        for turn, answer in enumerate(answers, start=1):
            if (answer >= 0).any():
                found.append((tokens[segments == turn].tolist(), answer[answer >= 0].tolist()))
            else:
                assert not (segments == turn).any()
    return found


def test_a_prompt_is_the_latest_items_codes_the_oldest_first():
    prompts = TOKENS.prompts([np.array([4, 0, 1, 3]), np.array([2])])
    assert prompts.input_ids.tolist() == [[2, 5, 2, 6, 8, 3, 5], [2, 6, 9, 0, 0, 0, 0]]
    assert prompts.attention_mask.tolist() == [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0]]


def test_an_empty_history_is_padding_alone():
    prompts = TOKENS.prompts([np.array([], dtype=np.int64)])
    assert prompts.input_ids.tolist() == [[0]] and prompts.attention_mask.tolist() == [[0]]


def test_short_histories_share_a_row():
    batch = TOKENS.batch(histories([1, 2, 3], [0], [4, 3]), np.array([0, 1, 2]), np.array([7, 8, 9]))
    assert batch.input_ids.tolist() == [[2, 6, 8, 2, 6, 9, 3, 5], [4, 7, 3, 5, 2, 5, 0, 0]]
    assert batch.segments.tolist() == [[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 2, 2, 0, 0]]
    assert batch.answers.tolist() == [[[2, 5, -1], [-1, -1, -1]], [[2, 6, 9], [2, 6, 8]]]
    assert batch.samples.tolist() == [7, 8, 9]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=40), st.integers(0, 4))
def test_rows_hold_every_history_once_and_no_more_than_five(rows: list[list[int]], target: int):
    batch = TOKENS.batch(histories(*rows), np.full(len(rows), target), np.arange(len(rows)))
    spelled = [[token for item in row[-3:] for token in ITEMS[item].tolist() if token >= 0] for row in rows]
    answer = [token for token in ITEMS[target].tolist() if token >= 0]
    assert sorted(taught(batch)) == sorted((history, answer) for history in spelled)
    assert batch.input_ids.shape[1] == max(len(history) for history in spelled)
    assert batch.answers.shape[1] <= 5
    assert (batch.input_ids[batch.segments == 0] == 0).all()


def test_every_training_item_but_the_first_is_an_answer_once():
    batches = list(data().train_dataloader())
    found = sorted(sample for batch in batches for sample in taught(batch))
    items = lambda first, end: list(range(100 + 3 * first, 100 + 3 * end))  # noqa: E731
    # nine items of u's eleven are for training, and two of v's four; w has none that follows another
    expected = [(items(max(0, end - 4), end), items(end, end + 1)) for end in range(1, 9)]
    assert found == sorted([*expected, (items(11, 12), items(12, 13))])
    assert sorted(sample for batch in batches for sample in batch.samples.tolist()) == list(range(9))


def test_validation_asks_for_the_held_out_item_after_the_latest():
    first, second = list(data().val_dataloader())
    assert first.targets.tolist() == [9, 13] and second.targets.tolist() == [16]
    assert first.input_ids.tolist() == [list(range(115, 127)), [*range(133, 139), *[0] * 6]]
    assert first.attention_mask.sum(dim=1).tolist() == [12, 6]


def test_validation_of_some_users():
    (batch,) = list(data(valid_users=2).val_dataloader())
    assert len(batch.targets) == 2 and set(batch.targets.tolist()) < {9, 13, 16}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_epoch_has_what_was_left(workers: int):
    whole, broken, resumed = (data(workers=workers).train_dataloader() for _ in range(3))
    for loader in (whole, broken, resumed):
        loader.set_epoch(3)
    everything = [batch.samples.tolist() for batch in whole]
    assert [batch.samples.tolist() for batch in islice(iter(broken), 1)] == everything[:1]
    resumed.load_state_dict({"position": 1})
    assert [batch.samples.tolist() for batch in resumed] == everything[1:]
    whole.set_epoch(4)
    assert [batch.samples.tolist() for batch in whole] != everything
