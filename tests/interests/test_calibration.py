"""Bins of a reliability plot and their error against closed forms; Platt's scaling finds what was planted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from dig.interests.calibration import Bin, PlattScaling, calibration_error, fit_platt, reliability


def test_bins_written_out():
    probability = np.array([0.9, 0.1, 0.8, 0.2])
    labels = np.array([1, 0, 0, 1])
    low, high = reliability(probability, labels, np.array([1.0, 1.0, 3.0, 1.0]), bins=2)
    assert low == pytest.approx(Bin(0.15, 0.5, 1 / 3))
    assert high == pytest.approx(Bin((3 * 0.8 + 0.9) / 4, 1 / 4, 2 / 3))
    assert calibration_error([low, high]) == pytest.approx(0.35 / 3 + abs(3.3 / 4 - 0.25) * 2 / 3)
    assert reliability(np.zeros(0), np.zeros(0), np.zeros(0)) == []
    assert calibration_error([]) == 0


def test_another_split_leaves_the_weights_of_the_means():
    probability, labels = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 0, 1])
    weights = np.array([9.0, 1.0, 1.0, 1.0])
    heavy = reliability(probability, labels, weights, bins=2)
    assert [each.weight for each in heavy] == pytest.approx([9 / 12, 3 / 12])
    even = reliability(probability, labels, weights, bins=2, split=np.ones(4))
    assert [each.weight for each in even] == pytest.approx([10 / 12, 2 / 12])
    assert even[0].predicted == pytest.approx((9 * 0.1 + 0.2) / 10)


ROW = st.tuples(st.floats(0, 1), st.integers(0, 1), st.floats(0.01, 10))


@given(st.lists(ROW, min_size=1, max_size=40), st.randoms())
def test_bins_keep_all_weight_rise_and_know_no_order_of_rows(rows, random):
    def bins(rows):
        return reliability(*map(np.array, zip(*rows, strict=True)), bins=5)

    found = bins(rows)
    assert sum(each.weight for each in found) == pytest.approx(1)
    assert [each.predicted for each in found] == sorted(each.predicted for each in found)
    total = sum(weight for *_, weight in rows)
    for part, column in (("predicted", 0), ("observed", 1)):
        mean = sum(row[column] * row[2] for row in rows) / total
        assert sum(getattr(each, part) * each.weight for each in found) == pytest.approx(mean, abs=1e-9)
    random.shuffle(rows)
    assert np.array(bins(rows)) == pytest.approx(np.array(found), abs=1e-9)


def test_promises_kept_have_no_error_and_exaggerated_ones_have_theirs():
    rng = np.random.default_rng(0)
    true = rng.random(200_000)
    labels = (rng.random(true.size) < true).astype(int)
    ones = np.ones(true.size)
    assert calibration_error(reliability(true, labels, ones)) < 0.005
    said = np.where(true > 0.5, 1.0, 0.0)  # true means 0.75 and 0.25
    assert calibration_error(reliability(said, labels, ones)) == pytest.approx(0.25, abs=0.01)


def test_platt_takes_back_what_was_planted():
    rng = np.random.default_rng(1)
    true = expit(rng.normal(size=200_000))
    labels = (rng.random(true.size) < true).astype(int)
    said = expit(3 * logit(true) + 1)  # overconfident and too high: the way back is (log odds − 1)/3
    platt = fit_platt(said, labels, np.ones(true.size))
    assert platt == pytest.approx((1 / 3, -1 / 3), abs=0.02)
    ones = np.ones(true.size)
    assert calibration_error(reliability(said, labels, ones)) > 0.15
    assert calibration_error(reliability(platt(said), labels, ones)) < 0.006
    assert np.isfinite(platt(np.array([0.0, 1.0]))).all()


def test_weights_count_as_so_many_rows():
    said, labels = np.array([0.2, 0.4, 0.6, 0.8, 0.7]), np.array([0, 1, 0, 1, 0])
    often = np.repeat(np.arange(5), [1, 2, 3, 4, 5])
    assert fit_platt(said, labels, np.arange(1.0, 6.0)) == pytest.approx(
        fit_platt(said[often], labels[often], np.ones(15)), abs=1e-3
    )


def test_probabilities_that_say_the_opposite_are_not_turned_round():
    said = np.array([0.9, 0.8, 0.2, 0.1])
    assert fit_platt(said, np.array([0, 0, 1, 1]), np.ones(4)) == PlattScaling(1.0, 0.0)
    np.testing.assert_allclose(PlattScaling(1.0, 0.0)(said), said)
