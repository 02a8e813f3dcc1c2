import math

import pytest

from dig.report.formats import duration, interval, metric_name, number, recommender_name, shorten, slug


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (22363, "22,363"),
        (8.876, "8.876"),
        (0.0125, "0.0125"),
        (1234.56, "1,234.6"),
        (2.0, "2"),
        (math.nan, "—"),
        (None, "—"),
        (math.inf, "—"),
        (True, "yes"),
        ("text", "text"),
        ({"a_b": 1, "c": None}, "a b 1, c —"),
    ],
)
def test_numbers(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.44, "0.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (80.4, "1 min 20 s"),
        (7500, "2 h 5 min"),
        (None, "—"),
        (math.nan, "—"),
        ("soon", "—"),
    ],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


def test_names():
    assert [metric_name(key) for key in ("hr@5", "ndcg@10", "popularity_lift@10")] == [
        "HR@5",
        "NDCG@10",
        "popularity lift@10",
    ]
    assert [recommender_name(key) for key in ("grpo", "item_knn", "my_own")] == ["GRPO", "item-kNN", "my own"]
    assert interval((0.1, 0.25)) == "0.1000–0.2500" and interval(None) == ""
    assert slug("Beyond accuracy!") == "beyond-accuracy"


def test_long_texts_are_cut_and_white_space_is_folded():
    assert shorten("a\n b", 10) == "a b" and shorten("x" * 10_000, 10) == "x" * 9 + "…"
