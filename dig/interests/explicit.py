"""EIMF (arXiv 2411.09410): explicit interests of customers in words, and typical customers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
import torch
from torch import Tensor

from dig.engine.folding import fold
from dig.interests.interest import distinct_phrases
from dig.interests.profiles import InterestProfiles
from dig.quantization.kmeans import assign, kmeans

__all__ = ["ExplicitInterests", "UserTexts", "typical_users"]


@dataclass(frozen=True)
class UserTexts:
    """What customers are after, the strongest first.

    Attributes:
        phrases: (users, most) int64 rows of :attr:`ExplicitInterests.phrases`, -1 behind the last.
        shares: (users, most) float32, how much of what they are after each one is; 0 behind the last.
    """

    phrases: np.ndarray
    shares: np.ndarray


class ExplicitInterests:
    """Interests in words of the customers of a training part.

    Args:
        interests: labelled interests (:data:`~dig.interests.interest.INTEREST_SCHEMA`).
        item_ids: the catalogue's ids in order.
        histories: (users,) catalogue rows of the training part, oldest first.
        limit: interests a customer at most.
    """

    def __init__(
        self, interests: pl.DataFrame, item_ids: Sequence[str], histories: Sequence[np.ndarray], limit: int
    ) -> None:
        surely = pl.col("confidence").fill_null(1.0) * pl.col("score").fill_null(1.0) > 0
        good = interests.filter((pl.col("label") == 1) & surely)
        self.phrases = distinct_phrases(good)
        self.histories = histories
        self._rows = {phrase: row for row, phrase in enumerate(self.phrases)}
        self._ids = item_ids
        self._limit = limit
        self._profiles = InterestProfiles(good)
        self._good = np.isin(np.asarray(item_ids, dtype=str), good["item_id"].unique().to_numpy().astype(str))

    def users(self) -> np.ndarray:
        """Rows of the customers who have an item with a good interest."""
        return np.array([row for row, history in enumerate(self.histories) if self._good[history].any()], np.int64)

    def texts(self, users: np.ndarray) -> UserTexts:
        """Interests of customers, given by their rows."""
        phrases = np.full((len(users), self._limit), -1, dtype=np.int64)
        shares = np.zeros((len(users), self._limit), dtype=np.float32)
        for place, user in enumerate(users):
            history = [self._ids[item] for item in self.histories[user]]
            for column, interests in enumerate(self._profiles.interests(history, self._limit)):
                phrases[place, column] = self._rows[fold(interests.text)]
                shares[place, column] = interests.share
        return UserTexts(phrases, shares)


# Typical customers: those nearest to the centres of clusters (EIMF, arXiv 2411.09410).


_ITERATIONS = 50


def typical_users(vectors: Tensor, clusters: int, each: int, generator: torch.Generator) -> Tensor:
    """The ``each`` members of every cluster that are nearest to its centre, all where it has no more.

    How the paper chooses is not public; this is our reading.

    Args:
        vectors: (users, width).
        clusters: clusters of k-means.
        each: typical users a cluster.
        generator: of k-means.

    Returns:
        (typical,) rows of ``vectors`` in order; every row once at most.

    Raises:
        ValueError: there are fewer users than clusters.
    """
    if len(vectors) < clusters:
        raise ValueError(f"{clusters} clusters are more than the {len(vectors)} users")
    vectors = vectors.float()
    centres = kmeans(vectors, clusters, _ITERATIONS, generator)
    codes = assign(vectors, centres)
    distances = (vectors - centres[codes]).square().sum(dim=1)
    order = distances.argsort(stable=True)
    order = order[codes[order].argsort(stable=True)]  # cluster after cluster, the nearest first
    bounds = torch.bincount(codes, minlength=clusters).cumsum(dim=0).tolist()
    chosen = [order[start:end][:each] for start, end in pairwise([0, *bounds])]
    return torch.cat(chosen).sort().values
