"""What a customer is after: the good interests of the items they bought, the latest and surest first.

EIMF (arXiv 2411.09410) teaches by them: explicit interests of customers in words, and typical customers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from dig.engine.folding import fold
from dig.interests.interest import distinct_phrases, fold_column
from dig.quantization.kmeans import assign, kmeans

__all__ = [
    "HALF_LIFE",
    "InterestProfiles",
    "Reason",
    "WeightedInterest",
    "ExplicitInterests",
    "UserTexts",
    "typical_users",
]


HALF_LIFE = 5.0
"""A purchase counts half of one that came this many purchases later; our own choice (open in the papers)."""


class WeightedInterest(NamedTuple):
    """An interest and its share of what a customer is after; shares add up to 1 over all of them."""

    text: str
    share: float


class Reason(NamedTuple):
    """Why an item may suit a customer.

    Attributes:
        interest: the interest that it shares with what they bought.
        share: its share of what they are after.
        because: the items of the history that have it, the latest first.
    """

    interest: str
    share: float
    because: tuple[str, ...]


class _Held(NamedTuple):
    folded: str
    text: str
    quality: float


class InterestProfiles:
    """Turns histories into weighted interests, and recommendations into reasons.

    An interest weighs ``recency · confidence · score`` for each item of the history that has it, with recency
    ``0.5^(age / half life)``, age counted in purchases; what no miner or classifier has said counts 1. Interests
    labelled 0 are left out.

    Args:
        interests: labelled interests (:data:`~dig.interests.interest.INTEREST_SCHEMA`).
        half_life: in purchases.
    """

    def __init__(self, interests: pl.DataFrame, half_life: float = HALF_LIFE) -> None:
        if half_life <= 0:
            raise ValueError(f"half_life must be above 0, it is {half_life}")
        self.half_life = half_life
        self._held: dict[str, list[_Held]] = defaultdict(list)
        good = interests.filter(pl.col("label") == 1)
        quality = good.select(pl.col("confidence").fill_null(1.0) * pl.col("score").fill_null(1.0)).to_series()
        rows = zip(good["item_id"], fold_column(good["text"]), good["text"], quality, strict=True)
        for item_id, folded, text, value in rows:
            self._held[item_id].append(_Held(folded, text, value))

    def interests(self, history: Sequence[str], limit: int = 8) -> list[WeightedInterest]:
        """What the history says a customer is after, the strongest first.

        Args:
            history: item ids, oldest first; items without interests add nothing.
            limit: this many at most.
        """
        weights, texts, _ = self._weigh(history)
        total = sum(weights.values())
        ranked = sorted(weights, key=lambda folded: (-weights[folded], folded))[:limit]
        return [WeightedInterest(texts[folded], weights[folded] / total) for folded in ranked if total > 0]

    def reasons(self, history: Sequence[str], item: str, limit: int = 3) -> list[Reason]:
        """The interests that an item shares with a history, those that weigh most in both first.

        Args:
            history: item ids, oldest first.
            item: the recommended item.
            limit: this many at most.
        """
        weights, _, sources = self._weigh(history)
        total = sum(weights.values())
        shared = [(weights[held.folded] / total, held) for held in self._held.get(item, ()) if weights.get(held.folded)]
        shared.sort(key=lambda pair: (-pair[0] * pair[1].quality, pair[1].folded))
        return [Reason(held.text, share, tuple(sources[held.folded][::-1])) for share, held in shared[:limit]]

    def _weigh(self, history: Sequence[str]) -> tuple[dict[str, float], dict[str, str], dict[str, list[str]]]:
        """Weights, wordings (the latest) and items by folded interest."""
        weights: dict[str, float] = defaultdict(float)
        texts: dict[str, str] = {}
        sources: dict[str, list[str]] = defaultdict(list)
        for place, item in enumerate(history):
            recency = 0.5 ** ((len(history) - 1 - place) / self.half_life)
            for held in self._held.get(item, ()):
                weights[held.folded] += recency * held.quality
                texts[held.folded] = held.text
                if item not in sources[held.folded]:
                    sources[held.folded].append(item)
        return weights, texts, sources


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
        limit: interests per customer at most.
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
