"""Typical customers against a slow loop over clusters."""

from __future__ import annotations

import pytest
import torch

from dig.interests.typical import typical_users
from dig.quantization.kmeans import assign, kmeans


@pytest.mark.parametrize(("users", "clusters", "each"), [(60, 5, 3), (40, 7, 100), (12, 12, 1), (9, 1, 2)])
def test_the_nearest_of_every_cluster(users: int, clusters: int, each: int):
    vectors = torch.randn(users, 4, generator=torch.Generator().manual_seed(3))
    found = typical_users(vectors, clusters, each, torch.Generator().manual_seed(0)).tolist()
    centres = kmeans(vectors, clusters, 50, torch.Generator().manual_seed(0))
    codes, expected = assign(vectors, centres).tolist(), set()
    for cluster in range(clusters):
        members = [user for user in range(users) if codes[user] == cluster]
        members.sort(
            key=lambda user: sum(
                (float(a) - float(b)) ** 2 for a, b in zip(vectors[user], centres[codes[user]], strict=True)
            )
        )
        expected |= set(members[:each])
    assert found == sorted(expected)


def test_equal_customers_are_no_trouble():
    vectors = torch.ones(6, 3)
    assert typical_users(vectors, 2, 2, torch.Generator().manual_seed(0)).tolist() == [0, 1]


def test_more_clusters_than_users():
    with pytest.raises(ValueError, match="3 clusters are more than the 2 users"):
        typical_users(torch.zeros(2, 3), 3, 1, torch.Generator())
