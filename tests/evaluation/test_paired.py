"""Paired bootstrap intervals against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap

from dig.evaluation import NDCG, HitRate
from dig.evaluation.paired import gains, paired_difference


def test_gains_add_up_to_the_metrics():
    generator = np.random.default_rng(0)
    ranked = torch.from_numpy(np.stack([generator.permutation(30)[:20] for _ in range(200)]))
    targets = torch.from_numpy(generator.integers(0, 30, 200))
    place = (ranked == targets.unsqueeze(1)).long()
    ranks = torch.where(place.any(dim=1), place.argmax(dim=1), -1).numpy()
    for metric, discounted in ((HitRate(7), False), (NDCG(7), True)):
        metric.update(ranked, targets)
        assert gains(ranks, 7, discounted).mean() == pytest.approx(metric.compute().item(), rel=1e-6)


def test_the_interval_is_scipys():
    generator = np.random.default_rng(1)
    first = (generator.random(400) < 0.3).astype(float)
    second = np.where(generator.random(400) < 0.1, 1.0, first)
    found = paired_difference(first, second)
    theirs = bootstrap((second - first,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert found.difference == pytest.approx((second - first).mean())
    assert found.low == pytest.approx(theirs.low, abs=5e-3) and found.high == pytest.approx(theirs.high, abs=5e-3)
    assert found.low > 0  # surer than unpaired examples would be


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        differences = generator.normal(0.1, 1.0, 100)
        found = paired_difference(np.zeros(100), differences, draws=300)
        covered += found.low <= 0.1 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_equal_recommenders_differ_by_nothing():
    found = paired_difference(np.ones(5), np.ones(5))
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("shapes", [(3, 4), (0, 0)])
def test_what_is_no_pair_is_refused(shapes: tuple[int, int]):
    with pytest.raises(ValueError, match="paired examples"):
        paired_difference(np.zeros(shapes[0]), np.zeros(shapes[1]))
