from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import poisson

from dig.interests.copurchase import (
    LIFT_CEILING,
    LIFT_FLOOR,
    count_copurchases,
    expected_pairs,
    lift_bar,
    observed_pairs,
    weak_labels,
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
