"""What a customer is after: the good interests of the items they bought, the latest and surest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from dig.interests.interest import fold_column

__all__ = ["HALF_LIFE", "InterestProfiles", "Reason", "WeightedInterest"]

HALF_LIFE = 5.0
"""A purchase counts half of one that came so many purchases later; our own choice (open in the papers)."""


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
            limit: so many at most.
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
            limit: so many at most.
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
