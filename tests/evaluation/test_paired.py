"""Paired bootstrap intervals and permutation tests against what is known of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dig.evaluation import NDCG, HitRate
from dig.evaluation.paired import bootstrap_interval, gains, holm, metric_gains, paired_difference


def places(examples: int, seed: int, ranked: float = 0.4) -> np.ndarray:
    """Places of targets, most of them not ranked."""
    generator = np.random.default_rng(seed)
    return np.where(generator.random(examples) < ranked, generator.integers(0, 20, examples), -1)


def test_gains_add_up_to_the_metrics():
    generator = np.random.default_rng(0)
    ranked = torch.from_numpy(np.stack([generator.permutation(30)[:20] for _ in range(200)]))
    targets = torch.from_numpy(generator.integers(0, 30, 200))
    place = (ranked == targets.unsqueeze(1)).long()
    ranks = torch.where(place.any(dim=1), place.argmax(dim=1), -1).numpy()
    for metric, discounted in ((HitRate(7), False), (NDCG(7), True)):
        metric.update(ranked, targets)
        assert gains(ranks, 7, discounted).mean() == pytest.approx(metric.compute().item(), rel=1e-6)


def test_gains_by_name():
    ranks = np.array([0, 1, 4, 5, -1])
    assert metric_gains("hr@5", ranks).tolist() == [1, 1, 1, 0, 0]
    assert metric_gains("mrr@5", ranks).tolist() == [1, 1 / 2, 1 / 5, 0, 0]
    assert metric_gains("ndcg@5", ranks) == pytest.approx([1, 1 / np.log2(3), 1 / np.log2(6), 0, 0])
    for unknown in ("coverage@5", "hr", "hr@five"):
        with pytest.raises(ValueError, match=r"hr@K, ndcg@K, mrr@K"):
            metric_gains(unknown, ranks)


def test_the_interval_of_a_mean_is_scipys_and_that_of_resampling_users_one_by_one():
    values = metric_gains("ndcg@10", places(400, seed=1))
    found = bootstrap_interval(values)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=2).confidence_interval
    generator = np.random.default_rng(3)
    means = [values[generator.integers(0, 400, 400)].mean() for _ in range(10_000)]
    assert found.mean == pytest.approx(values.mean())
    for low, high in ((theirs.low, theirs.high), np.quantile(means, [0.025, 0.975])):
        assert found.low == pytest.approx(low, abs=1e-3) and found.high == pytest.approx(high, abs=1e-3)


def test_the_interval_of_a_difference_is_scipys():
    first = metric_gains("ndcg@10", places(400, seed=4))
    second = np.where(np.random.default_rng(1).random(400) < 0.1, 1.0, first)
    found = paired_difference(first, second)
    theirs = stats.bootstrap((second - first,), np.mean, n_resamples=10_000, method="percentile", rng=2)
    assert found.difference == pytest.approx((second - first).mean())
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=2e-3)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=2e-3)
    assert found.low > 0  # surer than unpaired examples would be


@pytest.mark.parametrize("shift", [0, 4, 8])
def test_the_p_value_is_scipys(shift: int):
    first = places(120, seed=5)
    second = np.where(np.arange(120) < shift, 0, places(120, seed=6))
    one, other = (metric_gains("ndcg@10", ranks) for ranks in (first, second))
    theirs = stats.permutation_test(
        (other, one), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=10_000, rng=7
    )
    found = paired_difference(one, other)
    assert found.p_value == pytest.approx(theirs.pvalue, abs=4 * np.sqrt(0.25 / 10_000))


@pytest.mark.parametrize(
    "differences",
    [
        [0.2, 0.4, 0.3, 0.1],
        [0.1, 0.2, -0.3],
        [1.0, 1.0, 1.0, 0.0, -1.0],
        [0.5, 0.63, 0.5, -0.13, 1.0, 0.0, -0.37, 0.63],
    ],
)  # the first ties with its own sum but for rounding
def test_the_p_value_of_few_users_is_that_of_all_swaps(differences: list[float]):
    values = np.array(differences)
    sums = [abs(np.dot(signs, values)) for signs in itertools.product([-1, 1], repeat=len(values))]
    exact = np.mean(np.array(sums) >= abs(values.sum()) - 1e-9)
    found = paired_difference(np.zeros(len(values)), values, draws=20_000)
    assert found.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000) + 1e-4)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(2)
    shares = np.array([0.7, 0.1, 0.2])  # a discounted gain has few values
    worth = np.array([0.0, 0.5, 1.0])
    covered = 0
    for seed in range(400):
        found = bootstrap_interval(generator.choice(worth, 200, p=shares), draws=400, seed=seed)
        covered += found.low <= shares @ worth <= found.high
    assert 0.92 <= covered / 400 <= 0.98  # .95 within three standard errors


def test_differences_without_ties_are_covered_too():
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        differences = generator.normal(0.1, 1.0, 100)
        found = paired_difference(np.zeros(100), differences, draws=300)
        covered += found.low <= 0.1 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_p_value_is_uniform_where_nobody_is_better():
    found = []
    for seed in range(300):
        one, other = (metric_gains("ndcg@10", places(150, seed=2 * seed + side)) for side in (0, 1))
        found.append(paired_difference(one, other, draws=400, seed=seed).p_value)
    assert stats.kstest(found, "uniform").statistic < 1.63 / np.sqrt(300)  # Kolmogorov's bound at 1 %
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.038)


def test_nothing_depends_on_the_order_of_users_and_all_on_the_seed():
    one, other = (metric_gains("ndcg@10", places(500, seed=side)) for side in (0, 1))
    order = np.random.default_rng(9).permutation(500)
    found, shuffled = paired_difference(one, other), paired_difference(one[order], other[order])
    assert (found.low, found.high, found.p_value) == (shuffled.low, shuffled.high, shuffled.p_value)
    assert found == paired_difference(one, other) != paired_difference(one, other, seed=1)
    assert bootstrap_interval(one) == bootstrap_interval(one) != bootstrap_interval(one, seed=1)


def test_swapping_the_two_changes_the_sign_alone():
    one, other = (metric_gains("ndcg@10", places(500, seed=side)) for side in (0, 1))
    forth, back = paired_difference(one, other), paired_difference(other, one)
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.low == pytest.approx(-back.high, abs=2e-3) and forth.p_value == pytest.approx(back.p_value, abs=0.03)


def test_a_users_examples_stay_together():
    """Examples that say the same twice are not further evidence."""
    one, other = (metric_gains("ndcg@10", places(300, seed=side)) for side in (0, 1))
    users = np.tile(np.arange(300), 2)
    alone, twice = paired_difference(one, other), paired_difference(np.tile(one, 2), np.tile(other, 2), users=users)
    assert twice.low == pytest.approx(alone.low) and twice.high == pytest.approx(alone.high)
    assert twice.p_value == alone.p_value
    blind = paired_difference(np.tile(one, 2), np.tile(other, 2))
    assert blind.high - blind.low < 0.8 * (twice.high - twice.low)


def test_users_with_different_numbers_of_examples_are_resampled_one_by_one():
    generator = np.random.default_rng(0)
    users = np.repeat(np.arange(80), generator.integers(1, 6, 80))
    values = metric_gains("ndcg@10", places(len(users), seed=3)) + 0.2 * (users % 2)
    found = bootstrap_interval(values, users=users)
    sums, sizes = np.bincount(users, values), np.bincount(users)
    drawn = [generator.integers(0, 80, 80) for _ in range(10_000)]
    low, high = np.quantile([sums[row].sum() / sizes[row].sum() for row in drawn], [0.025, 0.975])
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(low, abs=3e-3) and found.high == pytest.approx(high, abs=3e-3)


def test_equal_recommenders_differ_by_nothing():
    found = paired_difference(np.ones(5), np.ones(5))
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("shapes", [(3, 4), (0, 0)])
def test_what_is_no_pair_is_refused(shapes: tuple[int, int]):
    with pytest.raises(ValueError, match="paired examples"):
        paired_difference(np.zeros(shapes[0]), np.zeros(shapes[1]))
    with pytest.raises(ValueError, match="there are none"):
        bootstrap_interval(np.zeros(0))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, 0.02, 0.5, 0.9]) == pytest.approx([0.08, 0.08, 1.0, 1.0])
    assert holm([0.7]) == [0.7] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_each_alone_and_bonferroni_in_the_same_order(p_values: list[float]):
    found = holm(p_values)
    for p, corrected in zip(p_values, found, strict=True):
        assert p <= corrected <= min(1.0, p * len(p_values)) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff(np.array(found)[order]) >= 0)
    assert min(found) == pytest.approx(min(1.0, min(p_values) * len(p_values)))
