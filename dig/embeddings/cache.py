"""Vectors by content: what was encoded once is never encoded again, and a kill loses no more than one shard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dig.engine.artifacts import atomic_path
from dig.engine.console import warn

__all__ = ["VectorCache", "content_keys"]


def content_keys(contents: Iterable[str | bytes]) -> np.ndarray:
    """``(n, 2)`` uint64: 128 bits of a hash of each content."""
    digests = [
        hashlib.blake2b(content.encode() if isinstance(content, str) else content, digest_size=16).digest()
        for content in contents
    ]
    return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2)


class VectorCache:
    """Shards of vectors with the keys of their contents, in one folder an encoder.

    A shard is a safetensors file of its own, written to a temporary name and renamed, so that several processes may
    write at once; none is ever changed. A shard that cannot be read is left out, and said.

    Args:
        folder: where the shards of one encoder with one recipe lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths: list[Path] = []
        self._shards = [pl.DataFrame(schema=_INDEX)]
        self._index: pl.DataFrame | None = None  # of all shards, made when it is first asked
        for path in sorted(folder.glob("*.safetensors")):
            self._open(path)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Whether each key ``(n, 2)`` has a vector, ``(n,)`` bool."""
        return self._locate(keys)["shard"].is_not_null().to_numpy()

    def gather(self, keys: np.ndarray) -> Tensor:
        """The vectors ``(n, dim)`` float32 of keys ``(n, 2)``.

        Raises:
            KeyError: a key has no vector.
        """
        located = self._locate(keys)
        if located["shard"].null_count():
            raise KeyError(f"{located['shard'].null_count()} of {len(keys)} contents have no vector in {self.folder}")
        result: Tensor | None = None
        shards, rows = located["shard"].to_numpy(), located["row"].to_numpy()
        for shard in np.unique(shards):
            with safe_open(self._paths[shard], "pt") as file:
                vectors = file.get_tensor("vectors")
            places = np.flatnonzero(shards == shard)
            if result is None:
                result = torch.empty(len(keys), vectors.shape[1])
            result[places] = vectors[torch.from_numpy(rows[places].astype(np.int64))].float()
        return torch.empty(0, 0) if result is None else result

    def add(self, keys: np.ndarray, vectors: Tensor) -> None:
        """Writes a shard of keys ``(n, 2)`` and vectors ``(n, dim)``."""
        if not len(keys):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.blake2b(keys.tobytes(), digest_size=12).hexdigest()
        path = self.folder / f"{name}.safetensors"
        content = {
            "keys": torch.from_numpy(keys.astype(np.uint64).view(np.int64).copy()),
            "vectors": vectors.detach().to("cpu", torch.float32).contiguous(),
        }
        with atomic_path(path) as temporary:
            save_file(content, temporary)
        if path not in self._paths:
            self._open(path)

    def _open(self, path: Path) -> None:
        try:
            with safe_open(path, "pt") as file:
                keys = file.get_tensor("keys").numpy().view(np.uint64)
        except (SafetensorError, OSError) as error:
            warn(f"{path} is not a readable shard of vectors ({error}); what it held is encoded again")
            return
        shard = pl.DataFrame({"high": keys[:, 0], "low": keys[:, 1]}).with_columns(
            pl.lit(len(self._paths), pl.UInt32).alias("shard"), pl.int_range(pl.len(), dtype=pl.UInt32).alias("row")
        )
        self._paths.append(path)
        self._shards.append(shard)
        self._index = None

    def _locate(self, keys: np.ndarray) -> pl.DataFrame:
        if self._index is None:
            self._index = pl.concat(self._shards).unique(["high", "low"], keep="first", maintain_order=True)
        key_table = pl.DataFrame({"high": keys[:, 0], "low": keys[:, 1]})
        return key_table.join(self._index, on=["high", "low"], how="left", maintain_order="left")


_INDEX = {"high": pl.UInt64, "low": pl.UInt64, "shard": pl.UInt32, "row": pl.UInt32}
