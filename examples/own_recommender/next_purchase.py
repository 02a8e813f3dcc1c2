"""What is bought next: a Markov chain over purchases, a recommender of one's own in one file.

``P(next | last) = (c(last, next) + μ · p(next)) / (c(last) + μ)`` with c the purchases of one item right after another
in the training part and p the share of all purchases that an item has (Dirichlet smoothing, Zhai and Lafferty 2004).

dig imports this file together with its configuration, so that nothing heavy is imported at its top: torch is imported
in the functions that use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dig.config import UserError
from dig.config.sections.checks import PositiveFloat, check_values
from dig.received.weights import read_tensors
from dig.recommenders import RecommenderSpec, Scorer

if TYPE_CHECKING:
    import torch

    from datamodules.histories import Histories

_FILE = "transitions.safetensors"
_TENSORS = {"before": ("int", 1), "after": ("int", 1), "times": ("int", 1), "counts": ("int", 1), "mu": ("float", 1)}


@dataclass
class NextPurchaseConfig:
    """What was bought right after the last item, smoothed by popularity."""

    smoothing: PositiveFloat = 5.0
    """Purchases (μ) that the popularity of items counts for, beside those that followed the last item."""

    def __post_init__(self) -> None:
        check_values("next_purchase", self)


SPEC = RecommenderSpec(
    name="next_purchase",
    title="Next purchase",
    settings=NextPurchaseConfig,
    model="next_purchase:NextPurchase",
)


class NextPurchase(Scorer):
    """Scores every item by its probability after the last one.

    Args:
        before: (pairs,) the earlier item of each pair of successive purchases, in order.
        after: (pairs,) the later one.
        times: (pairs,) how often it was bought right after the other.
        counts: (items,) purchases of each item.
        smoothing: μ.
    """

    def __init__(
        self, before: np.ndarray, after: np.ndarray, times: np.ndarray, counts: np.ndarray, smoothing: float
    ) -> None:
        self.before, self.after, self.times, self.counts, self.smoothing = before, after, times, counts, smoothing
        self.summary = f"{len(before):,} pairs of successive purchases"
        self._starts = np.searchsorted(before, np.arange(len(counts) + 1))
        self._popularity = counts / max(counts.sum(), 1)

    @classmethod
    def fit(cls, train: Histories, num_items: int, settings: NextPurchaseConfig) -> NextPurchase:
        """Counts successive purchases of the training part, catalogue rows of each user in order."""
        rows, owners = train.flat().astype(np.int64), train.owners()
        same = owners[1:] == owners[:-1]
        pairs, times = np.unique(rows[:-1][same] * num_items + rows[1:][same], return_counts=True)
        counts = np.bincount(rows, minlength=num_items)
        return cls(pairs // num_items, pairs % num_items, times, counts, settings.smoothing)

    def scores(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        """(batch, items) log-probabilities of the next item."""
        import torch

        counts = np.tile(self.smoothing * self._popularity, (len(histories), 1))
        totals = np.full(len(histories), self.smoothing)
        for row, history in enumerate(histories):
            if len(history):
                pairs = slice(self._starts[history[-1]], self._starts[history[-1] + 1])
                counts[row, self.after[pairs]] += self.times[pairs]
                totals[row] += self.times[pairs].sum()
        return torch.from_numpy(np.log(np.maximum(counts / totals[:, None], 1e-30))).float()

    def save(self, folder: Path, metadata: dict[str, str] | None = None) -> None:
        """Writes the pairs; ``metadata`` tells the catalogue that they count by, which dig checks."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name) for name in ("before", "after", "times", "counts")}
        save_file({**arrays, "mu": np.array([self.smoothing])}, folder / _FILE, metadata)

    @classmethod
    def load(cls, folder: Path) -> NextPurchase:
        """Reads what :meth:`save` wrote, in a run that may come from anybody.

        Raises:
            UserError: the file is missing, damaged, or speaks of items that it does not count.
        """
        arrays = {name: tensor.numpy() for name, tensor in read_tensors(folder / _FILE, _TENSORS).items()}
        before, after, times, counts, mu = arrays.values()
        rows = np.concatenate([before, after])
        inside = not len(rows) or (rows.min() >= 0 and rows.max() < len(counts))
        if not (len(before) == len(after) == len(times) and len(mu) == 1 and mu[0] > 0 and inside):
            raise UserError(f"{folder / _FILE} cannot be read: its pairs do not fit its items")
        return cls(before, after, times, counts, float(mu[0]))
