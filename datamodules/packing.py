"""Samples to batches: side by side in packed rows, or one per row, with labels and weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datamodules.histories import Ragged, spread

__all__ = ["Samples", "TrainingTokens", "collate", "pack_rows"]


@dataclass(frozen=True)
class Samples:
    """Spelled samples; the last this many tokens of each are learned.

    Attributes:
        tokens: (samples,) token ids.
        supervised: (samples,) int64, learned tokens at the end of each.
        responses: (samples,) int64, answers among them: items, or one text.
    """

    tokens: Ragged
    supervised: np.ndarray
    responses: np.ndarray

    def __len__(self) -> int:
        return len(self.supervised)


@dataclass
class TrainingTokens:
    """Token rows with supervision, padded on the right.

    Attributes:
        input_ids: (rows, length).
        attention_mask: (rows, length) 0 at padding, k at the tokens of a row's k-th sample: 1 in a row of one.
        labels: (rows, length) the token itself where it is supervised, else -100.
        weights: (rows, length) what a supervised token counts: its task's weight over the tokens of its answer.
        responses: () answers in the batch; a mean over them divides by it.
        samples: (samples,) numbers of the samples in the data set, which name the batch when something goes wrong.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    weights: Tensor
    responses: Tensor
    samples: Tensor


def collate(samples: Samples, numbers: np.ndarray, weights: np.ndarray, pad_id: int, pack: bool) -> TrainingTokens:
    """A batch of samples.

    Args:
        samples: what it holds.
        numbers: (samples,) their numbers in the data set.
        weights: (samples,) their tasks' weights.
        pad_id: token at padding.
        pack: lay several samples side by side in a row, so that little of a batch is padding.
    """
    lengths = samples.tokens.lengths
    rows, places, turns = pack_rows(lengths) if pack else _one_a_row(lengths)
    before = spread(lengths)
    cells = np.repeat(rows, lengths), np.repeat(places, lengths) + before
    learned = before >= np.repeat(lengths - samples.supervised, lengths)
    tokens = samples.tokens.values[samples.tokens.offsets[0] : samples.tokens.offsets[-1]].astype(np.int64)
    shape = (int(rows.max()) + 1, int((places + lengths).max()))
    ids, mask, labels = np.full(shape, pad_id), np.zeros(shape, np.int64), np.full(shape, -100)
    shares = np.zeros(shape, np.float32)
    ids[cells], mask[cells] = tokens, np.repeat(turns, lengths)
    labels[cells] = np.where(learned, tokens, -100)
    each = weights * samples.responses / np.maximum(samples.supervised, 1)
    shares[cells] = np.where(learned, np.repeat(each, lengths), 0.0)
    responses = torch.tensor(float(samples.responses.sum()))
    return TrainingTokens(
        torch.from_numpy(ids),
        torch.from_numpy(mask),
        torch.from_numpy(labels),
        torch.from_numpy(shares),
        responses,
        torch.from_numpy(np.asarray(numbers)),
    )


def pack_rows(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lays samples side by side in rows as long as the longest, the long ones first, each where it first fits.

    Args:
        lengths: (samples,).

    Returns:
        For each sample its row, the column where it begins, and its number in the row, from 1: (samples,) each.
    """
    width = int(lengths.max())
    rows, places, numbers = (np.zeros(len(lengths), dtype=np.int64) for _ in range(3))
    used: list[int] = []
    counts: list[int] = []
    for sample in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[sample])
        row = next((row for row, taken in enumerate(used) if taken + length <= width), len(used))
        if row == len(used):
            used.append(0)
            counts.append(0)
        counts[row] += 1
        rows[sample], places[sample], numbers[sample] = row, used[row], counts[row]
        used[row] += length
    return rows, places, numbers


def _one_a_row(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.arange(len(lengths)), np.zeros_like(lengths), np.ones_like(lengths)
