"""Histories as item numbers for sequential models, and as token ids with the next item for an encoder-decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.histories import Histories, Ragged, answer_windows, compact_windows, spread
from datamodules.loading import EpochBatchSampler, ResumableLoader
from datamodules.packing import pack_rows
from datamodules.prompts import Prompts
from datamodules.sequences import HeldOutBatch
from datamodules.splits import HeldOut, Sequences

__all__ = [
    "ItemSequenceBatch",
    "ItemSequences",
    "AnswerBatch",
    "HistoryTokens",
    "ItemAnswers",
]


@dataclass
class ItemSequenceBatch:
    """Histories and what came next.

    Attributes:
        histories: (batch, length) catalogue rows, the oldest first, -1 before the first.
        targets: (batch, length) the row after each, -1 where nothing is learned; (batch,) in validation.
        samples: (batch,) numbers of the histories.
    """

    histories: Tensor
    targets: Tensor
    samples: Tensor


class _Windows(Dataset[ItemSequenceBatch]):
    """The training part; every item but a user's first is a target once."""

    def __init__(self, sequences: Sequences, max_history: int) -> None:
        self.windows = compact_windows(sequences.train, max_history)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: list[int]) -> ItemSequenceBatch:
        windows = self.windows.histories.take(index)
        length = int(windows.lengths.max()) - 1  # no wider than the longest of the batch
        rows = windows.padded(length + 1)
        places = np.arange(length, 0, -1)
        learned = places <= self.windows.supervised[index][:, None]
        targets = np.where(learned, rows[:, 1:], -1)
        return ItemSequenceBatch(
            *(torch.from_numpy(array) for array in (rows[:, :-1].copy(), targets, np.asarray(index)))
        )


class _HeldOut(Dataset[ItemSequenceBatch]):
    def __init__(self, examples: HeldOut, max_history: int) -> None:
        self.examples, self.length = examples, max_history

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: list[int]) -> ItemSequenceBatch:
        histories = self.examples.histories.take(index)
        rows = histories.padded(min(self.length, max(int(histories.lengths.max()), 1)))
        return ItemSequenceBatch(
            torch.from_numpy(rows), torch.from_numpy(self.examples.targets[index]), torch.from_numpy(np.asarray(index))
        )


class ItemSequences(lightning.LightningDataModule):
    """Training windows, and the held-out items in validation.

    Args:
        sequences: all users.
        max_history: latest items that a model reads.
        batch_size: windows per step and device.
        valid_users: validation examples; None for all.
        seed: seed of the training order.
        workers: worker processes.
    """

    def __init__(
        self,
        sequences: Sequences,
        max_history: int,
        batch_size: int,
        valid_users: int | None,
        seed: int,
        workers: int = 0,
    ) -> None:
        super().__init__()
        examples = sequences.held_out("valid")
        self.training = _Windows(sequences, max_history)
        self.validation = _HeldOut(examples.take(examples.sample(valid_users, seed=0)), max_history)
        self.batch_size, self.seed, self.workers = batch_size, seed, workers

    def train_dataloader(self) -> DataLoader:
        """Shuffled by (seed, epoch); its position is part of a checkpoint."""
        return self._loader(self.training, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Users in their order."""
        return self._loader(self.validation, 4 * self.batch_size, shuffle=False)

    def _loader(self, dataset: Dataset, batch_size: int, shuffle: bool) -> DataLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochBatchSampler(len(dataset), batch_size, self.seed, shuffle, rank, world)  # type: ignore[arg-type]
        return ResumableLoader(dataset, sampler, self.workers)


_A_ROW = 5  # histories, at most: a decoder's rows are as wide as the fullest, and more of them would be padding


@dataclass
class AnswerBatch:
    """Histories side by side in rows, each with its answer.

    Attributes:
        input_ids: (rows, width) tokens of the histories.
        segments: (rows, width) k at the tokens of a row's k-th history, from 1; 0 at padding.
        answers: (rows, histories per row, levels) tokens of the next item of each, -1 where there is none.
        samples: (batch,) numbers of the samples.
    """

    input_ids: Tensor
    segments: Tensor
    answers: Tensor
    samples: Tensor


class HistoryTokens:
    """Spells histories for an encoder: the tokens of their latest items, the oldest first, and nothing else.

    Args:
        item_tokens: (items, levels) vocabulary ids, -1 for a missing suffix.
        max_history: latest items that are kept.
        pad_id: token at padding.
    """

    def __init__(self, item_tokens: Tensor, max_history: int, pad_id: int) -> None:
        self.item_tokens = item_tokens
        self.max_history = max_history
        self.pad_id = pad_id
        self._items = Ragged.from_padded(item_tokens.numpy())

    def spelled(self, histories: Histories) -> Ragged:
        """The tokens of each history."""
        latest = histories.latest(self.max_history)
        return self._items.take(latest.flat()).grouped(latest.lengths)

    def prompts(self, histories: Sequence[np.ndarray]) -> Prompts:
        """Histories of catalogue rows, one per row, padded on the right."""
        rows = self.spelled(histories if isinstance(histories, Histories) else Histories.from_lists(histories))
        alone = np.arange(len(rows)), np.zeros(len(rows), np.int64), np.ones(len(rows), np.int64)
        return Prompts(*self._laid(rows, *alone))

    def batch(self, histories: Histories, targets: np.ndarray, samples: np.ndarray) -> AnswerBatch:
        """A training batch, in few rows as wide as the longest history.

        Args:
            histories: (batch,) what was bought.
            targets: (batch,) catalogue rows of what came next.
            samples: (batch,) their numbers.
        """
        spelled = self.spelled(histories)
        lengths = spelled.lengths
        room = np.maximum(lengths, -(-int(lengths.max()) // _A_ROW))
        rows, places, turns = pack_rows(room)
        input_ids, segments = self._laid(spelled, rows, places, turns)
        answers = torch.full((len(input_ids), int(turns.max()), self.item_tokens.shape[1]), -1)
        answers[rows, turns - 1] = self.item_tokens[targets]
        return AnswerBatch(input_ids, segments, answers, torch.from_numpy(np.asarray(samples)))

    def _laid(self, spelled: Ragged, rows: np.ndarray, places: np.ndarray, turns: np.ndarray) -> tuple[Tensor, Tensor]:
        """Tokens and segments (rows, width), each history in its row from its place on."""
        lengths = spelled.lengths
        shape = int(rows.max()) + 1, max(int((places + lengths).max()), 1)
        tokens, segments = np.full(shape, self.pad_id, np.int64), np.zeros(shape, np.int64)
        cells = np.repeat(rows, lengths), np.repeat(places, lengths) + spread(lengths)
        tokens[cells] = spelled.values[spelled.offsets[0] : spelled.offsets[-1]]
        segments[cells] = np.repeat(turns, lengths)
        return torch.from_numpy(tokens), torch.from_numpy(segments)


class _Answers(Dataset[AnswerBatch]):
    """The training part; every item but a user's first is an answer once."""

    def __init__(self, sequences: Sequences, tokens: HistoryTokens) -> None:
        self.windows = answer_windows(sequences.train, tokens.max_history).histories
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: list[int]) -> AnswerBatch:
        windows = self.windows.take(index)
        histories = Histories(windows.items, windows.starts, windows.ends - 1)
        return self.tokens.batch(histories, windows.items[windows.ends - 1], np.asarray(index))


class _HeldOutTokens(Dataset[HeldOutBatch]):
    def __init__(self, examples: HeldOut, tokens: HistoryTokens) -> None:
        self.examples, self.tokens = examples, tokens

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: list[int]) -> HeldOutBatch:
        prompts = self.tokens.prompts(self.examples.histories.take(index))
        return HeldOutBatch(prompts.input_ids, prompts.attention_mask, torch.from_numpy(self.examples.targets[index]))


class ItemAnswers(lightning.LightningDataModule):
    """Training answers, each behind a history of its own, and the held-out items in validation.

    Args:
        sequences: all users.
        tokens: how histories and items are spelled.
        batch_size: answers per step and device.
        valid_users: validation examples; None for all.
        valid_batch_size: users a validation batch.
        seed: seed of the training order.
        workers: worker processes.
    """

    def __init__(
        self,
        sequences: Sequences,
        tokens: HistoryTokens,
        batch_size: int,
        valid_users: int | None,
        valid_batch_size: int,
        seed: int,
        workers: int = 0,
    ) -> None:
        super().__init__()
        examples = sequences.held_out("valid")
        self.training = _Answers(sequences, tokens)
        self.validation = _HeldOutTokens(examples.take(examples.sample(valid_users, seed=0)), tokens)
        self.batch_size, self.valid_batch_size = batch_size, valid_batch_size
        self.seed, self.workers = seed, workers

    def train_dataloader(self) -> DataLoader:
        """Shuffled by (seed, epoch); its position is part of a checkpoint."""
        return self._loader(self.training, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Users in their order."""
        return self._loader(self.validation, self.valid_batch_size, shuffle=False)

    def _loader(self, dataset: Dataset, batch_size: int, shuffle: bool) -> DataLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochBatchSampler(len(dataset), batch_size, self.seed, shuffle, rank, world)  # type: ignore[arg-type]
        return ResumableLoader(dataset, sampler, self.workers)
