"""Training samples as token arrays on disk: computed once, mapped into memory, no tokenisation in the epoch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.prompts import PromptBuilder, TrainingTokens
from datamodules.windows import Windows
from dig.artifacts import read_json, write_json
from dig.console import track

__all__ = ["TokenArrays", "pack_rows", "write_token_arrays"]

_CHUNK = 16_384  # windows spelled at once


class TokenArrays(Dataset[TrainingTokens]):
    """Samples of token ids; the last so many of each are supervised. Indexed by lists, which gives a batch.

    Args:
        folder: what :func:`write_token_arrays` filled.
        pack: lay several samples side by side in a row, so that little of a batch is padding.
    """

    def __init__(self, folder: Path, pack: bool = False) -> None:
        self.folder = folder
        self.pack = pack
        self.pad_id = int(read_json(folder / "tokens.json")["pad_id"])
        self._open()

    def _open(self) -> None:
        load = lambda name: np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)  # noqa: E731
        self.tokens, self.offsets, self.supervised = load("tokens"), load("offsets"), load("supervised")

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "pack": self.pack, "pad_id": self.pad_id}  # a worker maps the files itself

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self.supervised)

    @property
    def lengths(self) -> np.ndarray:
        """(samples,) tokens of each."""
        return np.diff(self.offsets)

    def __getitem__(self, index: list[int]) -> TrainingTokens:
        chosen = np.asarray(index)
        starts, lengths = self.offsets[chosen], self.offsets[chosen + 1] - self.offsets[chosen]
        rows, places, numbers = pack_rows(lengths) if self.pack else _one_a_row(lengths)
        # Where each token lies in the file, and where it goes in the batch.
        before = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        cells = np.repeat(rows, lengths), np.repeat(places, lengths) + before
        tokens = self.tokens[np.repeat(starts, lengths) + before].astype(np.int64)
        learned = before >= np.repeat(lengths - self.supervised[chosen], lengths)
        shape = (int(rows.max()) + 1, int((places + lengths).max()))
        ids, mask, labels = np.full(shape, self.pad_id), np.zeros(shape, np.int64), np.full(shape, -100)
        ids[cells], mask[cells] = tokens, np.repeat(numbers, lengths)
        labels[cells] = np.where(learned, tokens, -100)
        return TrainingTokens(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(labels), len(chosen))


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


def write_token_arrays(windows: Windows, builder: PromptBuilder, folder: Path) -> None:
    """Spells every window once.

    ``tokens.npy`` int32, all samples one after the other; ``offsets.npy`` int64 (samples + 1,); ``supervised.npy``
    int32 (samples,), how many tokens at the end of each are targets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    items = (builder.item_tokens >= 0).sum(dim=1).numpy()
    spelled = np.append(0, np.cumsum(items[windows.histories.items], dtype=np.int64))
    frame = len(builder.prefix) + len(builder.suffix)
    sizes = frame + spelled[windows.histories.ends] - spelled[windows.histories.starts]
    offsets = np.append(0, np.cumsum(sizes, dtype=np.int64))
    np.save(folder / "offsets.npy", offsets, allow_pickle=False)
    kinds = (("tokens", offsets[-1]), ("supervised", len(windows)))
    tokens, supervised = (
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.int32, shape=(int(size),))
        for name, size in kinds
    )
    for start in _chunks(len(windows)):
        part = slice(start, start + _CHUNK)
        batch = builder.training(windows.histories.take(part), windows.supervised[part])
        last = min(start + _CHUNK, len(windows))
        tokens[offsets[start] : offsets[last]] = batch.input_ids[batch.attention_mask.bool()].numpy()
        supervised[start:last] = (batch.labels >= 0).sum(dim=1).numpy()
    tokens.flush()
    supervised.flush()
    write_json(folder / "tokens.json", {"samples": len(windows), "tokens": int(offsets[-1]), "pad_id": builder.pad_id})


def _chunks(samples: int) -> Iterable[int]:
    starts = range(0, samples, _CHUNK)
    return track(starts, "token arrays") if len(starts) > 1 else starts
