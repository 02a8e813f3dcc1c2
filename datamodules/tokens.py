"""Training samples as token arrays on disk: computed once, mapped into memory, no tokenisation in the epoch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from datamodules.packing import Samples
from datamodules.ragged import Ragged, spread
from datamodules.tasks import TaskSource
from dig.engine.artifacts import read_json, write_json
from dig.engine.console import track

__all__ = ["TokenArrays", "write_token_arrays"]

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
