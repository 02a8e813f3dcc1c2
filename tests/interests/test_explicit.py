"""Explicit interests of customers: who has any, whose words they are, and nothing of items labelled 0."""

from __future__ import annotations

import numpy as np
import polars as pl

from dig.interests.explicit import ExplicitInterests
from dig.interests.interest import INTEREST_SCHEMA, mined_frame
from dig.interests.profiles import InterestProfiles

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
