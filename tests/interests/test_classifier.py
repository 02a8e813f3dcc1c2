"""The classifier: phrases stay whole in every fold, a heavy phrase is thinned fairly, planted weights are found."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from dig.interests import classifier
from dig.interests.classifier import PER_PHRASE, STRENGTHS, Examples, cross_validate, held_out_probability, train


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
