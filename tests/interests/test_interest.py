import polars as pl
import pytest
from polars.testing import assert_frame_equal

from dig.interests import INTEREST_SCHEMA, Interest, fold_column, from_frame, mined_frame, to_frame, without_twins

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


def test_twins_go_within_item_miner_and_kind_only():
    texts = [
        Interest("A", "Red", "text", 0.9, "m"),
        Interest("A", " red", "text", 0.8, "m"),
        Interest("A", "red", "visual", 0.7, "m"),
        Interest("A", "red", "text", 0.6, "n"),
        Interest("B", "red", "text", 0.5, "m"),
    ]
    frame = to_frame(texts)
    assert frame["confidence"].to_list() == [0.9, 0.7, 0.6, 0.5]
    assert_frame_equal(without_twins(frame), frame)


def test_from_frame_refuses_a_row_that_is_no_interest():
    frame = to_frame([Interest(**GOOD)]).with_columns(kind=pl.lit("smell"))
    with pytest.raises(ValueError, match="smell"):
        from_frame(frame)
