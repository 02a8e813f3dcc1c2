""""""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from dig.interests import (
    INTEREST_SCHEMA,
    Interest,
    fold_column,
    from_frame,
    item_quality,
    mined_frame,
    to_frame,
    without_duplicates,
)

GOOD = {"item_id": "A", "text": "gift-ready", "kind": "text", "confidence": 0.5, "miner": "m"}


def test_fold_column_is_fold_of_every_text():
    texts = pl.Series(["Red", "red ", None, "ＲＥＤ", "blue"])
    assert fold_column(texts).to_list() == ["red", "red", None, "red", "blue"]
    assert fold_column(pl.Series([], dtype=pl.String)).to_list() == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"item_id": ""}, "item_id"),
        ({"text": " \t"}, "blank"),
        ({"kind": "audio"}, "audio"),
        ({"miner": ""}, "miner"),
        ({"confidence": 1.5}, "confidence"),
        ({"confidence": float("nan")}, "confidence"),
        ({"label": 2}, "label"),
        ({"score": -0.1}, "score"),
        ({"votes": 0}, "votes"),
        ({"votes": 2}, "votes"),
        ({"miners": ("m", "n"), "wordings": ("gift-ready",)}, "wordings"),
    ],
)
def test_an_interest_out_of_range_is_refused(change, word):
    with pytest.raises(ValueError, match=word):
        Interest(**(GOOD | change))


def test_round_trip_keeps_values_and_order():
    interests = [
        Interest("B", "soft", "text", None, "m"),
        Interest("A", "Vintage", "visual", 1 / 3, "m", 1, 0.875),
        Interest("A", "red", "text", 0.0, "n", 0, 0.1),
        Interest(
            "C", "ready to give", "text", 0.75, "m", votes=2, miners=("m", "n"), wordings=("ready to give", "Gift")
        ),
    ]
    frame = to_frame(interests)
    assert frame.schema == INTEREST_SCHEMA
    assert from_frame(frame) == interests
    assert to_frame([]).schema == INTEREST_SCHEMA


def test_what_miners_give_has_one_vote_and_no_provenance():
    frame = mined_frame([("A", "gift-ready", "text", 0.5, "m")])
    assert frame.schema == INTEREST_SCHEMA == mined_frame([]).schema
    assert frame.row(0) == ("A", "gift-ready", "text", 0.5, "m", None, None, 1, None, None)
    assert_frame_equal(frame, to_frame([Interest(**GOOD)]))


def test_duplicates_go_within_item_miner_and_kind_only():
    texts = [
        Interest("A", "Red", "text", 0.9, "m"),
        Interest("A", " red", "text", 0.8, "m"),
        Interest("A", "red", "visual", 0.7, "m"),
        Interest("A", "red", "text", 0.6, "n"),
        Interest("B", "red", "text", 0.5, "m"),
    ]
    frame = to_frame(texts)
    assert frame["confidence"].to_list() == [0.9, 0.7, 0.6, 0.5]
    assert_frame_equal(without_duplicates(frame), frame)


def test_from_frame_refuses_a_row_that_is_no_interest():
    frame = to_frame([Interest(**GOOD)]).with_columns(kind=pl.lit("smell"))
    with pytest.raises(ValueError, match="smell"):
        from_frame(frame)


def interest(item: str, text: str, confidence: float | None, label: int | None) -> Interest:
    return Interest(item, text, "text", confidence, "m", label)


def test_closed_forms():
    frame = to_frame(
        [
            interest("A", "a", 0.5, 1),
            interest("A", "b", 0.25, 0),
            interest("A", "c", 0.25, 1),
            interest("B", "a", None, 1),
            interest("B", "b", None, 0),
            interest("B", "c", None, 0),
            interest("C", "a", 0.9, 0),
            interest("D", "a", 0.0, 1),
            interest("other", "a", 1.0, 1),
        ]
    )
    quality = item_quality(frame, ["B", "A", "none", "C", "D"])
    assert quality.dtype == np.float32
    np.testing.assert_allclose(quality, [1 / 3, 0.75, 0.0, 0.0, 0.0], rtol=1e-6)


def test_against_the_sum_written_out():
    rng = np.random.default_rng(0)
    rows = [
        (f"I{rng.integers(30)}", f"t{n}", None if rng.random() < 0.3 else float(rng.random()), int(rng.integers(2)))
        for n in range(400)
    ]
    items = [f"I{n}" for n in range(32)]
    expected = []
    for item in items:
        pairs = [(1.0 if c is None else c, y) for i, _, c, y in rows if i == item]
        expected.append(sum(c * y for c, y in pairs) / sum(c for c, _ in pairs) if pairs else 0.0)
    quality = item_quality(to_frame(interest(*row) for row in rows), items)
    np.testing.assert_allclose(quality, expected, rtol=1e-6)


def test_no_interests_at_all_and_unlabelled():
    np.testing.assert_array_equal(item_quality(to_frame([]), ["A", "B"]), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="1 interests have no label"):
        item_quality(to_frame([interest("A", "a", None, None)]), ["A"])
