"""How sure a mean and a difference of means are: users are resampled, and recommenders compared on the same users.

What an example adds to a metric depends on the place of its target alone, so it has few distinct values. To resample
users is then to draw how often each value occurs: a multinomial over the values, at a cost that does not depend on the
number of users, and with exactly the same distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

__all__ = [
    "DRAWS",
    "FAMILIES",
    "Interval",
    "PairedDifference",
    "bootstrap_interval",
    "gains",
    "holm",
    "metric_gains",
    "paired_difference",
    "accuracy_gains",
    "slice_metrics",
]


DRAWS = 10_000
"""Resamplings, unless told otherwise."""
FAMILIES = ("hr", "ndcg", "mrr")
"""Metrics that are means of what each example adds."""
_CHUNK = 2**21  # numbers drawn at a time
_TIE = 1e-12  # sums this close, as a share of the largest possible one, are equal


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval.

    Attributes:
        mean: of all values.
        low: lower end of the interval.
        high: upper end.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """A difference of means with its bootstrap interval and the p-value of a permutation test.

    Attributes:
        difference: mean of the second minus mean of the first.
        low: lower end of the interval.
        high: upper end.
        p_value: two-sided; 1 where the two are equal on every example.
    """

    difference: float
    low: float
    high: float
    p_value: float


def gains(ranks: np.ndarray, k: int, discounted: bool) -> np.ndarray:
    """What each example adds to HR@k, or to NDCG@k if ``discounted``.

    Args:
        ranks: (examples,) place of the target from 0 on, -1 where it was not ranked.
        k: cut-off.
        discounted: 1/log2(rank + 2) in place of 1.
    """
    return metric_gains(f"{'ndcg' if discounted else 'hr'}@{k}", ranks)


def metric_gains(metric: str, ranks: np.ndarray) -> np.ndarray:
    """What each example adds to a metric.

    Args:
        metric: ``hr@K``, ``ndcg@K`` or ``mrr@K``.
        ranks: (..., examples) place of the target from 0 on, -1 where it was not ranked.

    Returns:
        Of the same shape.

    Raises:
        ValueError: it is none of these.
    """
    family, _, cutoff = metric.partition("@")
    if family not in FAMILIES or not cutoff.isdecimal():
        raise ValueError(f"{metric} is not a metric of the form {', '.join(f'{name}@K' for name in FAMILIES)}")
    place = np.maximum(ranks, 0)
    worth = {"hr": np.ones(np.shape(ranks)), "ndcg": 1.0 / np.log2(place + 2.0), "mrr": 1.0 / (place + 1.0)}[family]
    return np.where((ranks >= 0) & (ranks < int(cutoff)), worth, 0.0)


def bootstrap_interval(
    values: np.ndarray, draws: int = DRAWS, level: float = 0.95, seed: int = 0, users: np.ndarray | None = None
) -> Interval:
    """Percentile bootstrap of a mean (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Args:
        values: (examples,) what each adds to a metric.
        draws: resamplings.
        level: share of the resampled means inside the interval.
        seed: of the resampling.
        users: (examples,) whose example it is, where users have several: users are resampled with all that is theirs.
            None takes each example as a user.

    Raises:
        ValueError: there are no examples.
    """
    if not len(values):
        raise ValueError("an interval needs examples, there are none")
    sums, sizes = _by_user(values, users)
    low, high = _percentiles(sums, sizes, draws, level, np.random.default_rng(seed))
    return Interval(float(np.mean(values)), low, high)


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
    users: np.ndarray | None = None,
) -> PairedDifference:
    """How far the second is above the first: percentile bootstrap interval and paired permutation test.

    The test asks how often a difference as large comes about when each user's two values are swapped by a coin
    (Smucker, Allan and Carterette, A Comparison of Statistical Significance Tests for Information Retrieval Evaluation,
    CIKM 2007).

    Args:
        first: (examples,) a metric's gains of one recommender.
        second: (examples,) of the other, on the same examples in the same order.
        draws: resamplings, and as many swaps.
        level: share of the resampled differences inside the interval.
        seed: of the resampling.
        users: (examples,) whose example it is, as for :func:`bootstrap_interval`.

    Raises:
        ValueError: the examples are not the same, or there are none.
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(f"paired examples are needed, not {first.shape} and {second.shape}")
    differences, generator = second - first, np.random.default_rng(seed)
    sums, sizes = _by_user(differences, users)
    low, high = _percentiles(sums, sizes, draws, level, generator)
    return PairedDifference(float(np.mean(differences)), low, high, _swapped(sums, draws, generator))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being several (Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979).

    Rejecting where the result is at most α keeps the chance of any false rejection at α or below, whatever the tests
    have to do with each other.

    Args:
        p_values: of the tests of one family, in any order.
    """
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return [float(value) for value in corrected]


def _by_user(values: np.ndarray, users: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Each user's sum, and number of examples."""
    if users is None:
        return np.asarray(values, dtype=float), np.ones(len(values))
    _, codes = np.unique(users, return_inverse=True)
    return np.bincount(codes, weights=values), np.bincount(codes).astype(float)


def _percentiles(
    sums: np.ndarray, sizes: np.ndarray, draws: int, level: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Ends of the interval of the mean over all examples of as many users, drawn with replacement."""
    distinct, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    shares = counts / len(sums)
    means = []
    for size in _chunks(draws, len(distinct)):
        drawn = generator.multinomial(len(sums), shares, size) @ distinct
        means.append(drawn[:, 0] / drawn[:, 1])
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _swapped(sums: np.ndarray, draws: int, generator: np.random.Generator) -> float:
    """Share of sign flips, the given signs among them, whose sum is as far from 0."""
    magnitudes, counts = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    if not len(magnitudes):
        return 1.0
    bound = abs(float(sums.sum())) - _TIE * float(counts @ magnitudes)
    extreme = 0
    for size in _chunks(draws, len(magnitudes)):
        plus = generator.binomial(counts, 0.5, (size, len(magnitudes)))
        extreme += int(np.count_nonzero(np.abs((2 * plus - counts) @ magnitudes) >= bound))
    return (1 + extreme) / (1 + draws)


def _chunks(draws: int, width: int) -> Iterator[int]:
    """Draws in portions that fit the memory; the numbers drawn do not depend on the portions."""
    portion = max(1, _CHUNK // width)
    for start in range(0, draws, portion):
        yield min(portion, draws - start)


def accuracy_gains(positions: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """What every example adds to HR, NDCG and MRR at each cut-off.

    Args:
        positions: (examples,) place of the target from 0 on, -1 where it was not ranked.
        ks: cut-offs.

    Returns:
        ``hr@5`` and so on to (examples,) float64.
    """
    return {(name := f"{family}@{k}"): metric_gains(name, positions) for family in FAMILIES for k in ks}


def slice_metrics(
    positions: np.ndarray,
    labels: pl.DataFrame,
    ks: Sequence[int],
    beyond: Callable[[np.ndarray], dict[str, float]] | None = None,
) -> dict[str, dict[str, Any]]:
    """The metrics of every value of every label.

    Args:
        positions: (examples,) place of the target from 0 on, -1 where it was not ranked.
        labels: a column a way to slice, named ``…_slice``, a row per example.
        ks: cut-offs.
        beyond: gives what is measured beyond HR, NDCG and MRR of the examples of these numbers.

    Returns:
        ``{"target: cold": {"examples": 138, "hr@5": …}, …}``, values in order.
    """
    values = accuracy_gains(positions, ks)
    metrics = {}
    for column in labels.columns:
        of = labels[column]
        for value in _ordered(of.unique().to_list()):
            mask = (of == value).to_numpy()
            name = column.removesuffix("_slice").replace("_", "-")
            metrics[f"{name}: {value}"] = {"examples": int(mask.sum())} | {
                key: float(each[mask].mean()) for key, each in values.items()
            }
            if beyond is not None:
                metrics[f"{name}: {value}"] |= beyond(np.flatnonzero(mask))
    return metrics


def _ordered(values: list[str]) -> list[str]:
    """Buckets such as 5-9 by their first number, names by the alphabet."""
    return sorted(
        values, key=lambda value: (int("0" + value.split("-")[0].rstrip("+")) if value[:1].isdigit() else 0, value)
    )
