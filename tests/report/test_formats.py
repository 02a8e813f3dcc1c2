""""""

import math

import pytest

from dig.report.formats import (
    cutoffs,
    duration,
    interval,
    interval_bounds,
    main_cutoff,
    main_metric,
    metric_name,
    number,
    protocols,
    recommender_name,
    shorten,
    slug,
)


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


def names(metrics: dict) -> list[tuple[str, str]]:
    return [(each.key, each.name) for each in protocols(metrics)]


def test_the_run_s_own_protocol_comes_first_under_its_name():
    both = {"sft": {"test": {}, "test_masked": {}, "mask_history": False}}
    assert names(both) == [("test", "history kept"), ("test_masked", "history masked")]
    masked = {"sft": {"test": {}, "test_unmasked": {}, "mask_history": True}}
    assert names(masked) == [("test", "history masked"), ("test_unmasked", "history kept")]
    assert names({"sft": {"test": {}}}) == [("test", "test")] and names({"sft": {}}) == []


def test_the_main_metric_is_ndcg_at_its_largest_cutoff():
    metrics = {"a": {"test": {"hr@5": 1, "ndcg@5": 1, "ndcg@20": 1, "ndcg@x": 1}}, "b": {"test": {"hr@20": 1}}}
    assert main_metric(metrics) == "ndcg@20" and main_cutoff(metrics) == 20 and cutoffs(metrics, "hr") == [5, 20]
    assert main_metric({}) == "" and main_cutoff({}) == 10 and main_metric({"a": {"test": {"auc": 1}}}) == "auc"


def test_an_interval_is_two_numbers_or_none():
    def bounds(value: object) -> tuple[float, float] | None:
        return interval_bounds({"intervals": {"test": {"hr@5": value}}}, "test", "hr@5")

    assert bounds([0.1, 0.2]) == (0.1, 0.2)
    assert [bounds(each) for each in ([0.1], None, "ab", [None, 0.2], [0.1, float("nan")])] == [None] * 5
    assert interval_bounds({}, "test", "hr@5") is None
