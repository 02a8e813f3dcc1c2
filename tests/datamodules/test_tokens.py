"""Token arrays give the batches that the prompt builder gives, and stay on disk."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny

from datamodules.mixture import TaskMixture, TaskPart, TokenArrays, write_token_arrays
from datamodules.packing import pack_rows
from datamodules.prompts import PromptBuilder, SidPrompts
from datamodules.sequences import training_windows
from dig.config.schema import PromptConfig

IDS = tiny.ragged_catalogue()
SEQUENCES = tiny.cyclic_sequences(50, 24)


def builder(style: str) -> PromptBuilder:
    tokens = tiny.token_sequences(IDS)
    return SidPrompts(tokens, tiny.text_tokenizer(), PromptConfig(style, 3), from_scratch=False)


@pytest.mark.parametrize("style", ["compact", "text"])
@pytest.mark.parametrize("chunk", [7, 16_384])
def test_a_batch_is_what_the_builder_spells(style: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datamodules.mixture._CHUNK", chunk)
    build = builder(style)
    windows = training_windows(SEQUENCES, build)
    write_token_arrays(tiny.task_source(SEQUENCES, build), tmp_path)
    arrays = TokenArrays(tmp_path)
    mixture = TaskMixture([TaskPart(arrays)])
    assert len(arrays) == len(windows) > 50
    for index in ([0], [3, 1, 2, 3], list(range(len(windows)))):
        taken = windows.histories.take(index)
        expected = tiny.window_batch(build, taken, windows.supervised[index])
        found = mixture[index]
        assert torch.equal(found.input_ids, expected.input_ids)
        assert torch.equal(found.attention_mask, expected.attention_mask)
        assert torch.equal(found.labels, expected.labels) and torch.equal(found.weights, expected.weights)
        assert found.responses == windows.supervised[index].sum() and found.samples.tolist() == index
        assert arrays.lengths[index].tolist() == expected.attention_mask.sum(dim=1).tolist()


def test_no_held_out_item_is_spelled():
    lengths = (5, 9, 3, 4)
    ends = np.cumsum(lengths)
    rows = [np.arange(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    data = tiny.Sequences.from_lists(list("abcd"), rows)
    tokens = torch.arange(21).unsqueeze(1) + 100
    build = SidPrompts(tokens, tiny.text_tokenizer(), PromptConfig("compact", 4), from_scratch=False)
    arrays = tiny.token_arrays(data, build)
    spelled = {int(token) - 100 for token in arrays.tokens if token >= 100}
    mixture = TaskMixture([TaskPart(arrays)])
    assert not spelled & {int(item) for items in data.rows for item in items[-2:]}
    labels = mixture[list(range(len(arrays)))].labels
    targets = sorted(int(label) - 100 for label in labels[labels >= 100])
    assert targets == [int(item) for items in data.train for item in items[1:]]


def test_arrays_are_mapped_and_travel_to_workers_by_name(tmp_path: Path):
    build = builder("compact")
    write_token_arrays(tiny.task_source(SEQUENCES, build), tmp_path)
    arrays = TokenArrays(tmp_path)
    assert isinstance(arrays.tokens, np.memmap) and arrays.tokens.dtype == np.int32
    travelled = pickle.dumps(arrays)
    assert len(travelled) < 500
    again = pickle.loads(travelled).take(np.array([4, 2]))  # noqa: S301 - our own
    assert np.array_equal(again.tokens.values, arrays.take(np.array([4, 2])).tokens.values)


def test_what_decides_the_spelling_is_in_the_fingerprint():
    found = {builder(style).fingerprint("next_item") for style in ("compact", "text")}
    other = SidPrompts(
        tiny.token_sequences(tiny.ragged_catalogue(seed=1)),
        tiny.text_tokenizer(),
        PromptConfig("compact", 3),
        from_scratch=False,
    )
    longer = SidPrompts(
        tiny.token_sequences(IDS), tiny.text_tokenizer(), PromptConfig("compact", 4), from_scratch=False
    )
    found |= {other.fingerprint("next_item"), longer.fingerprint("next_item"), longer.fingerprint("semantic")}
    assert len(found) == 5 and builder("compact").fingerprint("next_item") in found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_packed_rows_overlap_nowhere_and_waste_little(lengths: list[int]):
    rows, places, numbers = pack_rows(np.array(lengths))
    width = max(lengths)
    cells = np.zeros((max(rows) + 1, width), int)
    for length, row, place, number in zip(lengths, rows, places, numbers, strict=True):
        assert place + length <= width and not cells[row, place : place + length].any()
        cells[row, place : place + length] = number
    for row in cells:  # samples side by side from the left, numbered from 1
        found = [number for number in dict.fromkeys(row.tolist()) if number]
        assert found == list(range(1, len(found) + 1)) and (np.diff(row[row > 0]) >= 0).all() and row[0] > 0
    filled = (cells > 0).sum(axis=1)
    assert (filled <= width // 2).sum() <= 1  # two such rows would have been one


@pytest.mark.parametrize("style", ["compact", "text"])
def test_a_packed_batch_holds_the_same_samples(style: str):
    build = builder(style)
    generator = np.random.default_rng(0)
    sequences = tiny.Sequences.from_lists(
        [str(user) for user in range(40)], [generator.integers(0, 24, length) for length in [4] * 35 + [30] * 5]
    )
    plain, packed = tiny.next_items(sequences, build), tiny.next_items(sequences, build, pack=True)
    index = list(range(len(plain)))[::-1]
    one, many = plain[index], packed[index]
    assert one.samples.tolist() == many.samples.tolist() == index and len(index) >= len(many.input_ids)
    if style == "compact":
        assert many.input_ids.numel() < 0.9 * one.input_ids.numel()

    def samples(batch) -> list[tuple]:
        rows = list(zip(batch.input_ids, batch.attention_mask, batch.labels, strict=True))
        return sorted(
            (ids[mask == number].tolist(), labels[mask == number].tolist())
            for ids, mask, labels in rows
            for number in range(1, int(mask.max()) + 1)
        )

    assert samples(one) == samples(many)
    assert (many.labels[many.attention_mask == 0] == -100).all()
    assert pickle.loads(pickle.dumps(packed)).pack  # noqa: S301 - our own
