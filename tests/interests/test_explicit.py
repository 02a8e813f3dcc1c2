"""Explicit interests of customers: who has any, whose words they are, and nothing of items labelled 0."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from dig.interests.interest import INTEREST_SCHEMA, mined_frame
from dig.interests.profiles import ExplicitInterests, InterestProfiles, typical_users
from dig.quantization.kmeans import assign, kmeans

IDS = ["a", "b", "c", "d"]
HISTORIES = [np.array(row, dtype=np.int64) for row in ([0, 1], [2], [], [3, 0, 0], [3])]


def labelled(*rows: tuple[str, str, float | None, int]) -> pl.DataFrame:
    frame = mined_frame((item, text, "text", confidence, "miner") for item, text, confidence, _ in rows)
    labels = pl.Series([label for *_, label in rows], dtype=pl.Int8)
    return frame.with_columns(label=labels).select(INTEREST_SCHEMA.names())


FRAME = labelled(
    ("a", "Dry Skin", 0.5, 1),
    ("a", "travel", None, 1),
    ("b", "dry skin", 1.0, 1),
    ("c", "gift", 0.9, 0),
    ("d", "worth nothing", 0.0, 1),
)


def explicit(limit: int = 3) -> ExplicitInterests:
    return ExplicitInterests(FRAME, IDS, HISTORIES, limit)


def test_users_have_an_item_with_a_good_interest():
    found = explicit()
    assert found.phrases == ["dry skin", "travel"]  # folded, once, none that is labelled 0 or weighs nothing
    assert found.users().tolist() == [0, 3]


def test_texts_are_the_merged_interests_of_the_items():
    found = explicit()
    texts = found.texts(np.array([3, 0]))
    assert texts.phrases.tolist() == [[1, 0, -1], [0, 1, -1]]
    profiles = InterestProfiles(FRAME)
    for row, history in enumerate((["d", "a", "a"], ["a", "b"])):
        expected = [each.share for each in profiles.interests(history) if each.share]
        np.testing.assert_allclose(texts.shares[row], [*expected, 0.0], rtol=1e-6)
        assert texts.shares[row].sum() > 0.99
    assert texts.shares[1, 0] > texts.shares[1, 1]  # two items say it


def test_the_limit_keeps_the_strongest():
    assert explicit(1).texts(np.array([0, 3])).phrases.tolist() == [[0], [1]]


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
