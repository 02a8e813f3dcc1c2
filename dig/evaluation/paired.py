"""How sure a difference between two recommenders is: both are asked the same, so examples are compared in pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["PairedDifference", "gains", "paired_difference"]

_CHUNK = 100


@dataclass(frozen=True)
class PairedDifference:
    """A difference of means with its bootstrap interval.

    Attributes:
        difference: mean of the second minus mean of the first.
        low: lower end of the interval.
        high: upper end.
    """

    difference: float
    low: float
    high: float


def gains(ranks: np.ndarray, k: int, discounted: bool) -> np.ndarray:
    """What each example adds to HR@k, or to NDCG@k if ``discounted``.

    Args:
        ranks: (examples,) place of the target from 0 on, -1 where it was not ranked.
        k: cut-off.
        discounted: 1/log2(rank + 2) in place of 1.
    """
    hit = (ranks >= 0) & (ranks < k)
    return np.where(hit, 1.0 / np.log2(np.maximum(ranks, 0) + 2.0) if discounted else 1.0, 0.0)


def paired_difference(
    first: np.ndarray, second: np.ndarray, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> PairedDifference:
    """Percentile bootstrap over examples (Efron and Tibshirani, 1993, chapter 13).

    Args:
        first: (examples,) a metric's gains of one recommender.
        second: (examples,) of the other, on the same examples in the same order.
        draws: resamplings.
        level: share of the resampled differences inside the interval.
        seed: of the resampling.

    Raises:
        ValueError: the examples are not the same, or there are none.
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(f"paired examples are needed, not {first.shape} and {second.shape}")
    differences, generator = second - first, np.random.default_rng(seed)
    even = np.full(len(first), 1.0 / len(first))
    means = np.concatenate(
        [generator.multinomial(len(first), even, min(_CHUNK, draws - start)) @ differences
         for start in range(0, draws, _CHUNK)]
    )  # fmt: skip
    low, high = np.quantile(means / len(first), [(1 - level) / 2, (1 + level) / 2])
    return PairedDifference(float(differences.mean()), float(low), float(high))
