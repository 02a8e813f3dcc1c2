""""""

import math
from collections import Counter
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from scipy import sparse
from scipy.stats import poisson

from dig.config.schema import LabelConfig
from dig.interests import mined_frame
from dig.interests.supervision import (
    LIFT_CEILING,
    LIFT_FLOOR,
    by_behaviour,
    by_verdicts,
    count_copurchases,
    expected_pairs,
    lift_bar,
    observed_pairs,
    weak_labels,
    weigh_phrases,
)


def obvious_counts(sequences, window):
    counts = Counter()
    for sequence in sequences:
        pairs = set()
        for i, j in combinations(range(len(sequence)), 2):
            if j - i <= window and sequence[i] != sequence[j]:
                pairs.add((min(sequence[i], sequence[j]), max(sequence[i], sequence[j])))
        counts.update(pairs)
    return counts


@pytest.fixture
def behaviour():
    rng = np.random.default_rng(3)
    sequences = [rng.integers(0, 30, size=rng.integers(0, 15)) for _ in range(80)]
    membership = sparse.csr_matrix((rng.random((12, 30)) < 0.3).astype(float))
    return sequences, membership


@pytest.mark.parametrize("window", [1, 5, 50])
def test_pairs_against_the_obvious_loop(behaviour, window):
    sequences, _ = behaviour
    found = count_copurchases(sequences, 30, window)
    assert dict(zip(zip(found.left, found.right, strict=True), found.users, strict=True)) == dict(
        obvious_counts(sequences, window)
    )
    degrees = np.zeros(30)
    for (a, b), count in obvious_counts(sequences, window).items():
        degrees[a] += count
        degrees[b] += count
    np.testing.assert_array_equal(found.degrees(), degrees)


def test_the_window_ends_at_five_and_a_user_counts_once():
    found = count_copurchases(
        [np.array([0, 9, 9, 9, 9, 1]), np.array([0, 8, 8, 8, 8, 8, 1]), np.array([2, 3, 2, 3])], 10
    )
    pairs = dict(zip(zip(found.left, found.right, strict=True), found.users, strict=True))
    assert pairs == {(0, 9): 1, (1, 9): 1, (0, 1): 1, (0, 8): 1, (1, 8): 1, (2, 3): 1}


def test_observed_and_expected_against_the_sums_written_out(behaviour):
    sequences, membership = behaviour
    found = count_copurchases(sequences, 30)
    counts, degrees = obvious_counts(sequences, 5), found.degrees()
    everything = sum(degrees[a] * degrees[b] for a, b in combinations(range(30), 2))
    observed, expected = [], []
    for row in membership.toarray():
        pairs = list(combinations(np.flatnonzero(row), 2))
        observed.append(sum(counts[pair] for pair in pairs))
        expected.append(sum(counts.values()) * sum(degrees[a] * degrees[b] for a, b in pairs) / everything)
    np.testing.assert_array_equal(observed_pairs(membership, found), observed)
    np.testing.assert_allclose(expected_pairs(membership, degrees), expected)


def test_a_phrase_that_all_items_hold_expects_what_is_observed(behaviour):
    sequences, _ = behaviour
    found = count_copurchases(sequences, 30)
    everything = sparse.csr_matrix(np.ones((1, 30)))
    assert expected_pairs(everything, found.degrees())[0] == pytest.approx(observed_pairs(everything, found)[0])


@pytest.mark.parametrize("sequences", [[], [np.array([], dtype=np.int64)], [np.array([4])], [np.array([4, 4])]])
def test_no_pairs_no_evidence(sequences):
    found = count_copurchases(sequences, 5)
    membership = sparse.csr_matrix(np.ones((2, 5)))
    assert observed_pairs(membership, found).tolist() == expected_pairs(membership, found.degrees()).tolist() == [0, 0]
    assert weak_labels(np.zeros(2), np.zeros(2)).tolist() == [-1, -1]


def test_rows_outside_the_catalogue_are_refused():
    with pytest.raises(ValueError, match="3 to 7"):
        count_copurchases([np.array([3, 7])], 7)
    with pytest.raises(ValueError, match="-1"):
        count_copurchases([np.array([-1, 2])], 7)


def test_labels_are_the_poisson_tests():
    observed, expected = (grid.ravel() for grid in np.meshgrid(np.arange(40.0), np.linspace(0.1, 20, 25)))
    for bar in (1.5, 2.5):
        labels = weak_labels(observed, expected, bar)
        for o, e, label in zip(observed, expected, labels, strict=True):
            if poisson.cdf(0, bar * e) > 0.05:
                wanted = -1
            elif o / e >= bar and poisson.sf(o - 1, e) <= 0.001:
                wanted = 1
            else:
                wanted = 0 if poisson.cdf(o, bar * e) <= 0.05 else -1
            assert label == wanted, (o, e, bar)
        assert set(labels) == {-1, 0, 1}


def test_the_bar_is_the_lower_quartile_within_bounds():
    expected = np.full(101, 10.0)
    assert lift_bar(np.linspace(10, 50, 101), expected) == pytest.approx(2.0)
    assert lift_bar(expected, expected) == LIFT_FLOOR
    assert lift_bar(9 * expected, expected) == LIFT_CEILING
    assert lift_bar(np.full(5, 3.0), np.full(5, 0.01)) == LIFT_FLOOR  # nothing has support


ITEMS = [f"I{number}" for number in range(4)]


def interests(*pairs: tuple[str, str]):
    return mined_frame((item, text, "text", None, "m") for item, text in pairs)


@pytest.fixture
def evidence():
    frame = interests(("I0", "Soft"), ("I1", "soft"), ("I2", "red"), ("I1", "SOFT"), ("I3", "red"))
    return weigh_phrases(frame, pl.Series(ITEMS), [np.array([0, 1]), np.array([0, 1]), np.array([1, 2])])


def test_phrases_their_items_and_their_pairs_written_out(evidence):
    assert evidence.phrases.tolist() == ["red", "soft"]
    assert evidence.of_interest.tolist() == [1, 1, 0, 1, 0]
    assert evidence.item_rows.tolist() == [0, 1, 2, 1, 3]
    assert evidence.items.tolist() == [2, 2]  # an item that says a phrase twice holds it once
    assert evidence.observed.tolist() == [0, 2]
    degrees = [2, 3, 1, 0]  # of 3 pairs in all
    products = sum(a * b for place, a in enumerate(degrees) for b in degrees[place + 1 :])
    np.testing.assert_allclose(evidence.expected, [0, 3 * 6 / products])


def test_a_lift_of_little_support_is_drawn_towards_none(evidence):
    assert evidence.log_lift[0] == 0
    assert evidence.log_lift[1] == pytest.approx(math.log((2 + 5) / (18 / 11 + 5)))
    many = evidence._replace(observed=np.array([4e6, 0.0]), expected=np.array([1e6, 1e6]))
    assert many.log_lift == pytest.approx([math.log(4), math.log(5 / (1e6 + 5))], abs=1e-4)


def test_behaviour_labels_phrases_and_every_phrase_weighs_one(evidence):
    strong = evidence._replace(observed=np.array([0.0, 900.0]), expected=np.array([100.0, 100.0]))
    supervision, bar = by_behaviour(strong, min_items=2)
    assert 1.5 <= bar <= 3.0
    assert supervision.labels.tolist() == [1, 1, 0, 1, 0]
    assert supervision.groups.tolist() == [1, 1, 0, 1, 0]
    np.testing.assert_allclose(supervision.weights, [1 / 3, 1 / 3, 1 / 2, 1 / 3, 1 / 2])
    assert not supervision.binding
    nobody, _ = by_behaviour(strong, min_items=3)
    assert nobody.labels.tolist() == [-1] * 5 and nobody.weights.tolist() == [0] * 5


def test_verdicts_are_about_interests_and_stay(evidence):
    supervision = by_verdicts(evidence, np.array([1, 0, -1, -1, 1], dtype=np.int8), "judge")
    assert supervision.labels.tolist() == [1, 0, -1, -1, 1]
    assert supervision.weights.tolist() == [1, 1, 0, 0, 1]
    assert supervision.binding and supervision.source == "judge"
    assert (supervision.phrases(1), supervision.phrases(0)) == (2, 1)
    for wrong in (np.array([1, 0]), np.array([1, 0, 2, -1, -1])):
        with pytest.raises(ValueError, match="5 interests need as many verdicts"):
            by_verdicts(evidence, wrong, "file")


def test_ten_phrases_of_each_class_are_needed():
    texts = [f"phrase {number}" for number in range(20)]
    frame = interests(*[("I0", text) for text in texts])
    evidence = weigh_phrases(frame, pl.Series(ITEMS), [])
    folds = LabelConfig().folds
    enough = by_verdicts(evidence, np.arange(20) % 2, "judge")
    assert enough.obstacle(folds) is None and enough.obstacle(11) is not None
    few = by_verdicts(evidence, (np.arange(20) > 8).astype(int), "file")
    assert few.obstacle(folds) == (
        "not trained: the file calls 11 phrases good and 9 not, at least 10 of each are needed; "
        "all others count as positive"
    )
