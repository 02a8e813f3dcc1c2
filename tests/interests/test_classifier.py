"""Bins of a reliability plot and their error against closed forms; Platt's scaling finds what was planted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from dig.interests import classifier
from dig.interests.classifier import (
    PER_PHRASE,
    STRENGTHS,
    Bin,
    Examples,
    PlattScaling,
    calibration_error,
    cross_validate,
    fit_platt,
    held_out_probability,
    reliability,
    train,
)


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


def planted(phrases: int = 400, each: int = 4, seed: int = 0) -> tuple[Examples, np.ndarray]:
    """Labels by a logistic model of the first of three features; the second is its noise, the third says nothing."""
    rng = np.random.default_rng(seed)
    of_phrase = rng.normal(size=(phrases, 3))
    truth = expit(2 * of_phrase[:, 0])
    labels = (rng.random(phrases) < truth).astype(int)
    groups = np.repeat(np.arange(phrases), each)
    features = of_phrase[groups] + 0.01 * rng.normal(size=(len(groups), 3))
    return Examples(features, labels[groups], groups, np.full(len(groups), 1 / each)), truth[groups]


def test_a_phrase_is_never_in_training_and_test_at_once():
    examples, _ = planted(60)
    tested = []

    def fit(part: Examples):
        assert set(part.labels) == {0, 1}
        seen = set(part.groups)

        def predict(features: np.ndarray) -> np.ndarray:
            rows = [int(np.flatnonzero((examples.features == row).all(axis=1))[0]) for row in features]
            assert seen.isdisjoint(examples.groups[rows])
            tested.extend(rows)
            return np.array(rows, dtype=float)

        return predict

    found = held_out_probability(examples, 5, 0, fit)
    np.testing.assert_array_equal(found, np.arange(240))  # every row once, and in its place
    assert sorted(tested) == list(range(240))


def test_also_the_inner_folds_keep_phrases_whole(monkeypatch: pytest.MonkeyPatch):
    examples, _ = planted(60)
    parts = []
    original = classifier.held_out_probability

    def spy(part: Examples, *rest):
        parts.append((part, original(part, *rest)))
        return parts[-1][1]

    monkeypatch.setattr(classifier, "held_out_probability", spy)
    cross_validate(examples, 4, seed=0)
    inner = [part for part, found in parts if found.ndim == 2]
    assert len(inner) == 4
    for part in inner:  # what was tuned and calibrated on are other phrases than those of the fold that is measured
        assert 0 < len(set(part.groups)) < 60


def test_a_heavy_phrase_is_thinned_and_keeps_its_weight():
    groups = np.array([0] * 100 + [1] * 3 + [2] * PER_PHRASE)
    weights = np.random.default_rng(0).random(len(groups))
    few = Examples(np.arange(len(groups))[:, None], groups % 2, groups, weights).thinned(seed=0)
    assert np.bincount(few.groups).tolist() == [PER_PHRASE, 3, PER_PHRASE]
    np.testing.assert_allclose(np.bincount(few.groups, few.weights), np.bincount(groups, weights))
    assert (few.labels == few.groups % 2).all() and (np.diff(few.features[:, 0]) > 0).all()
    light = few.groups > 0
    np.testing.assert_allclose(few.weights[light], weights[few.features[light, 0]])


def test_it_finds_what_was_planted():
    examples, truth = planted(3000)
    model = train(examples, seed=0)
    assert model.strength in STRENGTHS
    first, *others = model.weights
    assert first == pytest.approx(2.0, abs=0.25)  # the standardised feature has spread 1
    assert np.abs(others).max() < 0.2
    assert np.abs(model.probability(examples.features) - truth).mean() < 0.03


def test_held_out_quality_is_that_of_the_truth_and_not_better():
    examples, truth = planted(2000)
    found = cross_validate(examples, 5, seed=0)
    best = roc_auc_score(examples.labels, truth, sample_weight=examples.weights)
    own = roc_auc_score(examples.labels, found, sample_weight=examples.weights)
    assert own == pytest.approx(best, abs=0.01)


def test_features_that_say_nothing_promise_the_base_rate():
    examples, _ = planted(400)
    noise = examples._replace(features=np.random.default_rng(5).normal(size=examples.features.shape)[examples.groups])
    found = cross_validate(noise, 5, seed=0)
    assert 0.35 < roc_auc_score(noise.labels, found, sample_weight=noise.weights) < 0.65
    assert np.abs(found - noise.labels.mean()).mean() < 0.1
    np.testing.assert_array_equal(found, cross_validate(noise, 5, seed=0))
