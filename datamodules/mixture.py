"""Training samples: token arrays computed once and mapped into memory, and tasks mixed in one shuffled order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.histories import Ragged, spread
from datamodules.loading import draw_shares
from datamodules.packing import Samples, TrainingTokens, collate
from datamodules.tasks import TaskSource
from dig.engine.artifacts import read_json, write_json
from dig.engine.console import track

__all__ = [
    "TaskMixture",
    "TaskPart",
    "TokenArrays",
    "write_token_arrays",
]


_CHUNK = 16_384  # samples spelled at once
_FILES = {"tokens": np.int32, "offsets": np.int64, "supervised": np.int32, "responses": np.int32}


class TokenArrays:
    """A task's samples of token ids.

    Args:
        folder: what :func:`write_token_arrays` filled.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pad_id = int(read_json(folder / "tokens.json")["pad_id"])
        self._open()

    def _open(self) -> None:
        self.tokens, self.offsets, self.supervised, self.responses = (
            _mapped(self.folder / name, kind) for name, kind in _FILES.items()
        )

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "pad_id": self.pad_id}  # a worker maps the files itself

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self.supervised)

    @property
    def lengths(self) -> np.ndarray:
        """(samples,) tokens of each."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> Samples:
        """The given samples."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        tokens = self.tokens[np.repeat(starts, lengths) + spread(lengths)]
        return Samples(Ragged.from_lengths(tokens, lengths), self.supervised[rows], self.responses[rows])


def write_token_arrays(source: TaskSource, folder: Path) -> None:
    """Spells every sample of a task once.

    Flat files of little-endian numbers: ``tokens`` int32, all samples one after the other; ``offsets`` int64
    (samples + 1,); ``supervised`` int32 (samples,), how many tokens at the end of each are targets; ``responses``
    int32 (samples,), how many answers these are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: (folder / name).open("wb") for name in _FILES}
    total = 0
    try:
        _append(files["offsets"], [0], np.int64)
        for start in _chunks(source):
            samples = source.take(slice(start, start + _CHUNK))
            _append(files["tokens"], samples.tokens.values, np.int32)
            _append(files["offsets"], samples.tokens.offsets[1:] + total, np.int64)
            _append(files["supervised"], samples.supervised, np.int32)
            _append(files["responses"], samples.responses, np.int32)
            total += len(samples.tokens.values)
    finally:
        for file in files.values():
            file.close()
    content = {"task": source.name, "samples": len(source), "tokens": total, "pad_id": source.builder.pad_id}
    write_json(folder / "tokens.json", content)


def _mapped(path: Path, kind: type) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=kind)
    return np.memmap(path, dtype=np.dtype(kind).newbyteorder("<"), mode="r")


def _append(file: object, values: Iterable[int] | np.ndarray, kind: type) -> None:
    np.asarray(values, dtype=np.dtype(kind).newbyteorder("<")).tofile(file)  # type: ignore[arg-type]


def _chunks(source: TaskSource) -> Iterable[int]:
    starts = range(0, len(source), _CHUNK)
    return track(starts, f"token arrays: {source.name}") if len(starts) > 1 else starts


@dataclass(frozen=True)
class TaskPart:
    """A task of a mixture.

    Attributes:
        arrays: its samples.
        weight: factor on their loss.
        share: how often an epoch holds each sample, on average.
    """

    arrays: TokenArrays
    weight: float = 1.0
    share: float = 1.0


class TaskMixture(Dataset[TrainingTokens]):
    """The samples of all tasks, one task's after the other's; indexed by lists, which gives a batch.

    Args:
        parts: the tasks.
        pack: lay several samples side by side in a row, so that little of a batch is padding.

    Raises:
        ValueError: there is no sample at all.
    """

    def __init__(self, parts: list[TaskPart], pack: bool = False) -> None:
        self.parts = parts
        self.pack = pack
        self.begins = np.append(0, np.cumsum([len(part.arrays) for part in parts], dtype=np.int64))
        if not self.begins[-1]:
            raise ValueError("the training part holds no sample: every user has fewer than two items in it")

    def __len__(self) -> int:
        return int(self.begins[-1])

    @property
    def lengths(self) -> np.ndarray:
        """(samples,) tokens of each."""
        return np.concatenate([part.arrays.lengths for part in self.parts])

    @property
    def drawn(self) -> list[int]:
        """Samples of each task in an epoch."""
        return [round(part.share * len(part.arrays)) for part in self.parts]

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """The samples of an epoch in random order: (sum of ``drawn``,).

        A share above 1 repeats samples, one below takes a part, a new one with every epoch.
        """
        return draw_shares([len(part.arrays) for part in self.parts], self.drawn, generator)

    def __getitem__(self, index: list[int]) -> TrainingTokens:
        numbers = np.asarray(index)
        owner = np.searchsorted(self.begins, numbers, side="right") - 1
        parts, weights, order = [], np.empty(len(numbers)), []
        for number in np.unique(owner):
            part, mine = self.parts[number], np.flatnonzero(owner == number)
            parts.append(part.arrays.take(numbers[mine] - self.begins[number]))
            weights[mine] = part.weight
            order.append(mine)
        samples = parts[0] if len(parts) == 1 else _merged(parts, np.argsort(np.concatenate(order), kind="stable"))
        return collate(samples, numbers, weights, self.parts[0].arrays.pad_id, self.pack)


def _merged(found: list[Samples], order: np.ndarray) -> Samples:
    """All samples, brought into the given order."""
    tokens = Ragged.from_lengths(
        np.concatenate([part.tokens.values for part in found]), np.concatenate([part.tokens.lengths for part in found])
    )
    supervised, responses = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("supervised", "responses")
    )
    return Samples(tokens.take(order), supervised[order], responses[order])
