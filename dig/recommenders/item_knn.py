"""Item-kNN: neighbours by co-occurrence in the training part (Sarwar et al., WWW 2001)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dig.config.errors import UserError
from dig.config.recommenders import RecommenderSpec
from dig.config.sections.checks import NonNegativeFloat, PositiveFraction, PositiveInt, check_values
from dig.engine.lazy import numpy as np
from dig.engine.lazy import safetensors, scipy, torch
from dig.evaluation.rankers import Scorer
from dig.received.weights import read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.histories import Histories

__all__ = ["SPEC", "ItemKNN", "ItemKNNConfig", "cosine_neighbours"]

_FILE = "neighbours.safetensors"
_TENSORS = {
    "data": ("float", 1),
    "indices": ("int", 1),
    "indptr": ("int", 1),
    "counts": ("int", 1),
    "decay": ("float", 1),
}
_CHUNK = 4096


@dataclass
class ItemKNNConfig:
    """Neighbours of the items of a history, weighted by how late they were bought."""

    neighbours: PositiveInt = 200
    """Nearest items that are kept of each."""
    shrinkage: NonNegativeFloat = 5.0
    """Purchases in common that a similarity needs to be believed half."""
    decay: PositiveFraction = 0.6
    """Weight of an item, times this for every later item of the history; 1 weighs all the same."""

    def __post_init__(self) -> None:
        check_values("item_knn", self)


SPEC = RecommenderSpec(
    name="item_knn",
    title="item-kNN",
    settings=ItemKNNConfig,
    model="dig.recommenders.item_knn:ItemKNN",
    colour=1,
)


class ItemKNN(Scorer):
    """Scores an item by its similarity to the items of the history, later ones counting more.

    Items without any similarity follow by popularity, so that a ranking is never short.

    Args:
        similarity: (items, items) sparse; row i holds the similarities of item i's neighbours, all above 0.
        counts: (items,) occurrences in the training part.
        decay: weight of an item of the history, times this for every later one.
    """

    def __init__(self, similarity: scipy.sparse.csr_matrix, counts: np.ndarray, decay: float) -> None:
        self.similarity, self.counts, self.decay = similarity, counts, decay
        prior = np.empty(len(counts), dtype=np.float32)
        prior[np.argsort(-counts, kind="stable")] = np.linspace(-1.0, -2.0, len(counts), dtype=np.float32)
        self._prior = torch.from_numpy(prior)

    @property
    def summary(self) -> str:
        """One line about it."""
        return f"{self.similarity.nnz / max(self.similarity.shape[0], 1):.0f} neighbours per item"

    @classmethod
    def fit(cls, train: Histories, num_items: int, config: ItemKNNConfig) -> ItemKNN:
        """Counts who bought both, and keeps each item's nearest.

        Args:
            train: (users,) catalogue rows, held-out items left out.
            num_items: size of the catalogue.
            config: neighbours, shrinkage and decay.
        """
        similarity = cosine_neighbours(train, num_items, config.neighbours, config.shrinkage)
        return cls(similarity, np.bincount(train.flat(), minlength=num_items), config.decay)

    def scores(self, histories: Sequence[np.ndarray]) -> Tensor:
        """(batch, items): sums of similarities, or below -1, by popularity, where there is none."""
        rows = np.concatenate([np.asarray(history, dtype=np.int64) for history in histories])
        lengths = np.array([len(history) for history in histories])
        user = np.repeat(np.arange(len(histories)), lengths)
        later = np.repeat(np.cumsum(lengths), lengths) - np.arange(1, len(rows) + 1)
        weights = (self.decay**later).astype(np.float32)
        bought = scipy.sparse.csr_matrix((weights, (user, rows)), shape=(len(histories), len(self.counts)))
        scores = torch.from_numpy((bought @ self.similarity).toarray())
        return torch.where(scores > 0, scores, self._prior)

    def save(self, folder: Path, metadata: dict[str, str] | None = None) -> None:
        """Writes the neighbours; ``metadata`` goes into the file, the stamp of the catalogue, say."""
        folder.mkdir(parents=True, exist_ok=True)
        similarity = self.similarity
        arrays = {
            "data": similarity.data,
            "indices": similarity.indices,
            "indptr": similarity.indptr,
            "counts": self.counts,
            "decay": np.array([self.decay]),
        }
        safetensors.numpy.save_file(arrays, folder / _FILE, metadata)

    @classmethod
    def load(cls, folder: Path) -> ItemKNN:
        """Reads what :meth:`save` wrote.

        Raises:
            UserError: the file is missing, damaged or another one.
        """
        arrays = {name: tensor.numpy() for name, tensor in read_tensors(folder / _FILE, _TENSORS).items()}
        shape = (len(arrays["counts"]), len(arrays["counts"]))
        try:
            similarity = scipy.sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
            similarity.check_format(full_check=True)  # a product reads memory wherever these indices point
            decay = float(arrays["decay"].item())
        except (ValueError, IndexError) as error:
            raise UserError(f"{folder / _FILE} cannot be read: {str(error).splitlines()[0]}") from None
        return cls(similarity, arrays["counts"], decay)


def cosine_neighbours(train: Histories, num_items: int, neighbours: int, shrinkage: float) -> scipy.sparse.csr_matrix:
    """Each item's nearest by the cosine of who bought them, shrunk towards 0 where few did.

    ``s_ij = c_ij / √(n_i n_j) · c_ij / (c_ij + shrinkage)`` with c users of both and n users of each (the shrinkage of
    Bell and Koren, ICDM 2007).

    Args:
        train: (users,) catalogue rows.
        num_items: size of the catalogue.
        neighbours: nearest items that are kept.
        shrinkage: purchases in common at which a similarity is halved.

    Returns:
        (items, items) float32; no item is its own neighbour.
    """
    flat = train.flat().astype(np.int64)
    bought = scipy.sparse.csr_matrix(
        (np.ones(len(flat), np.float32), (train.owners(), flat)), shape=(len(train), num_items)
    )
    bought.data[:] = 1.0  # who bought twice is one user
    users = np.maximum(np.asarray(bought.sum(axis=0)).ravel(), 1.0)
    of_items = bought.T.tocsr()
    parts = []
    for start in range(0, num_items, _CHUNK):
        common = (of_items[start : start + _CHUNK] @ bought).tocoo()
        row, others = common.row + start, common.row + start != common.col
        row, column, count = row[others], common.col[others], common.data[others]
        value = count / np.sqrt(users[row] * users[column]) * (count / (count + shrinkage))
        order = np.lexsort((column, -value, row))
        row, column, value = row[order], column[order], value[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        nearest = place < neighbours
        parts.append((row[nearest], column[nearest], value[nearest].astype(np.float32)))
    rows, columns, values = (np.concatenate(each) for each in zip(*parts, strict=True))
    return scipy.sparse.csr_matrix((values, (rows, columns)), shape=(num_items, num_items))
