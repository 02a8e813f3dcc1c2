"""Popularity: the same ranking for everybody, by how often items occur in the training part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dig.config.recommenders import RecommenderSpec
from dig.engine.lazy import numpy as np
from dig.engine.lazy import safetensors, torch
from dig.evaluation.rankers import Scorer
from dig.received.weights import read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.histories import Histories

__all__ = ["SPEC", "Popularity"]

SPEC: RecommenderSpec[None] = RecommenderSpec(
    name="popularity", title="popularity", model="dig.recommenders.popularity:Popularity", colour=0
)

_FILE = "counts.safetensors"


class Popularity(Scorer):
    """Ranks items by their count in the training part, ties by catalogue order.

    Args:
        counts: (items,) int64 occurrences in the training part.
    """

    summary = "counts of the training part"

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts

    @classmethod
    def fit(cls, train: Histories, num_items: int) -> Popularity:
        """Counts the training part.

        Args:
            train: (users,) catalogue rows, held-out items left out.
            num_items: size of the catalogue.
        """
        return cls(torch.from_numpy(np.bincount(train.flat(), minlength=num_items)))

    def scores(self, histories: Sequence[np.ndarray]) -> Tensor:
        """(batch, items) the counts, whatever the history."""
        return self.counts.float().expand(len(histories), -1)

    def save(self, folder: Path, metadata: dict[str, str] | None = None) -> None:
        """Writes the counts; ``metadata`` goes into the file, the stamp of the catalogue, say."""
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file({"counts": self.counts}, folder / _FILE, metadata)

    @classmethod
    def load(cls, folder: Path) -> Popularity:
        """Reads what :meth:`save` wrote.

        Raises:
            UserError: the file is missing, damaged or another one.
        """
        return cls(read_tensors(folder / _FILE, {"counts": ("int", 1)})["counts"])
