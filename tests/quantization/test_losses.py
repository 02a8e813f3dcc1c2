"""The optional loss terms against obvious loops, and collaborative vectors."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dig.quantization.features import behaviour_vectors
from dig.quantization.losses import cluster_codes, diversity, info_nce


def vectors(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))


def test_info_nce_both_ways_over_rows_with_a_positive():
    first, second = vectors(5, 0), vectors(5, 1)
    there = torch.tensor([True, True, False, True, True])
    kept = [0, 1, 3, 4]
    total = 0.0
    for own in kept:
        for a, b in ((first, second), (second, first)):
            scores = [float(F.cosine_similarity(a[own], b[other], dim=0)) / 0.2 for other in kept]
            total -= scores[kept.index(own)] - math.log(sum(math.exp(score) for score in scores))
    assert float(info_nce(first, second, 0.2, there)) == pytest.approx(total / 8, rel=1e-5)


def test_info_nce_needs_two_rows_and_stays_in_the_graph():
    first = vectors(3, 0).requires_grad_()
    loss = info_nce(first, vectors(3, 1), 0.2, torch.tensor([True, False, False]))
    loss.backward()
    assert float(loss) == 0.0 and first.grad.abs().max() == 0


def test_clusters_of_codes_are_even():
    clusters = cluster_codes(vectors(32, 0), 4, torch.Generator().manual_seed(0))
    assert torch.bincount(clusters).tolist() == [8, 8, 8, 8]


def test_diversity_equals_the_papers_formula():
    codebook, codes = vectors(6, 2), torch.tensor([0, 3, 5])
    clusters = torch.tensor([0, 0, 1, 1, 0, 2])
    draws = torch.tensor([0.9, 0.3, 0.5])
    expected = []
    for code, draw in zip(codes.tolist(), draws.tolist(), strict=True):
        family = [j for j in range(6) if j != code and clusters[j] == clusters[code]]
        if not family:
            continue  # code 5 is alone in its cluster
        positive = family[int(draw * len(family))]
        scores = {j: float(codebook[code] @ codebook[j]) for j in range(6) if j != code}
        expected.append(-scores[positive] + math.log(sum(math.exp(score) for score in scores.values())))
    assert float(diversity(codebook, codes, clusters, draws)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_behaviour_vectors_put_together_what_is_bought_together():
    # two groups of five items, bought among themselves; item 10 was never bought
    pairs = [(a + base, b + base) for base in (0, 5) for a in range(5) for b in range(a + 1, 5)]
    left, right = (np.array(side) for side in zip(*pairs, strict=True))
    found = behaviour_vectors(left, right, np.ones(len(left)), 11, 2)
    assert found.shape == (11, 2) and found[10].abs().max() == 0
    torch.testing.assert_close(found[:10].norm(dim=1), torch.ones(10))
    similar = found[:10] @ found[:10].T
    assert similar[:5, :5].min() > 0.9 and similar[5:, 5:].min() > 0.9 and similar[:5, 5:].max() < 0.5
    assert torch.equal(found, behaviour_vectors(left, right, np.ones(len(left)), 11, 2))


def test_behaviour_of_nobody_is_zero():
    empty = np.array([], dtype=np.int64)
    assert behaviour_vectors(empty, empty, empty, 4, 8).abs().max() == 0
