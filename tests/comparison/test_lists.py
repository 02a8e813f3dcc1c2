"""From another program's columns to ranked lists: what each column is, what decides the order, ids as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dig.comparison.lists import RankedLists, ranked_lists
from dig.config import UserError

KNOWN = ["a", "b", "c", "d e"]


def read(columns: dict[str, Any], by_score: bool = False) -> RankedLists:
    return ranked_lists(pl.DataFrame(columns, strict=False), "theirs", KNOWN, by_score)


def lists(columns: dict[str, Any], by_score: bool = False) -> dict[str, list[str]]:
    found = read(columns, by_score)
    return {
        user: found.items.filter(pl.col("row") == row)["item"].to_list()
        for row, user in found.rows.select("row", "user").iter_rows()
    }


def refusal(columns: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        read(columns)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    assert str(caught.value).startswith("theirs: ")
    return str(caught.value)


@pytest.mark.parametrize(
    "columns",
    [
        {"user_id": ["1", "1", "2"], "item_id": ["b", "a", "c"], "score": [0.9, 0.1, 3.0], "rank": [1, 2, 1]},
        {"user_id:token": ["1", "2", "1"], "item_id:token": ["b", "c", "a"], "score:float": ["9e-1", "3", "0.1"]},
        {"user": [1, 1, 2], "item": ["a", "b", "c"], "rank": [2, 1, 1]},  # LensKit
        {"q_id": ["1", "1", "2"], "doc_id": ["b", "a", "c"], "score": [2, 1, 5]},  # ranx
        {"query_idx": [0, 0, 0], "userId": [1.0, 1.0, 2.0], "itemId": ["b", "a", "c"], "rank": [0, 1, 0]},
        {"user_id": [1, 1, 2], "parent_asin": ["a", "b", "c"], "relevance": [1, 2, 3]},
        {"UID": [1, 2], "Recommendations": [["b", "a"], ["c"]]},
        {"user": [1, 2], "item_ids": ["['b', 'a']", "['c']"]},  # a list as Python prints it
        {"user": [1, 2], "items": ['["b", "a"]', '["c"]']},
        {"user": [1, 2], "items": ["['b' 'a']", "['c']"]},  # as NumPy prints it
        {"user": [1, 2], "items": ["b|a", "c"]},
        {"user": [1, 2], "items": ["b, a", "c"]},
        {"user": [1, 2], "topk": ["b a", "c"]},
        {
            "user": [1, 2],
            "recs": [
                [{"item_id": "b", "score": 2.0}, {"item_id": "a", "score": 1.0}],
                [{"item_id": "c", "score": 0.5}],
            ],
        },
        {"user": [1, 2], "items": [["b", "a"], ["c"]], "scores": [[2.0, 2.0], [1.0]], "stage": ["x", "x"]},
    ],
)
def test_what_toolkits_write_is_understood(columns: dict[str, Any]):
    columns.pop("query_idx", None)
    assert lists(columns) == {"1": ["b", "a"], "2": ["c"]}


def test_the_separator_is_the_one_that_gives_known_ids():
    assert lists({"user": [1], "items": ["d e,a"]}) == {"1": ["d e", "a"]}


def test_fixed_arrays_and_empty_lists():
    frame = pl.DataFrame({"user": [1, 2]}).with_columns(items=pl.Series(np.array([["b", "a"], ["c", "a"]])))
    assert isinstance(frame["items"].dtype, pl.Array)
    assert ranked_lists(frame, "theirs", KNOWN).items["item"].to_list() == ["b", "a", "c", "a"]
    assert lists({"user": [1, 2, 3], "items": [["a"], [], None]}) == {"1": ["a"], "2": [], "3": []}


@settings(deadline=None, max_examples=40)
@given(base=st.sampled_from([0, 1]), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_ranks_from_0_and_from_1_are_the_same_places(base: int, sizes: list[int], seed: int):
    rows = [(f"u{user}", f"i{place}", base + place) for user, size in enumerate(sizes) for place in range(size)]
    rows = [rows[at] for at in np.random.default_rng(seed).permutation(len(rows))]
    users, items, ranks = (list(column) for column in zip(*rows, strict=True))
    found = lists({"user": users, "item": items, "rank": ranks})
    assert found == {f"u{user}": [f"i{place}" for place in range(size)] for user, size in enumerate(sizes)}


def test_where_ranks_and_scores_disagree_the_ranks_count_and_in_trec_the_scores():
    columns = {"user": [1, 1, 2, 2], "item": ["a", "b", "a", "b"], "rank": [1, 2, 1, 2], "score": [1, 2, 4, 3]}
    assert lists(columns) == {"1": ["a", "b"], "2": ["a", "b"]}
    assert read(columns).notes == ("ranks and scores disagree for 1 user, and the ranks count",)
    assert lists(columns, by_score=True) == {"1": ["b", "a"], "2": ["a", "b"]}
    assert read(columns, by_score=True).notes == ("ranks and scores disagree for 1 user, and the scores count",)
    assert read(columns | {"rank": [0, 0, 0, 0]}, by_score=True).notes == ()  # a rank that nobody filled in


def test_rows_without_rank_and_score_are_ranked_as_they_come():
    found = read({"user": [2, 1, 2], "item": ["b", "a", "c"]})
    assert found.items["item"].to_list() == ["b", "c", "a"] and not found.scored
    assert found.notes == ("its rows have neither rank nor score, so items are ranked in the order of the rows",)


def test_a_score_of_minus_infinity_is_no_item():
    """It is how toolkits mask a history before they take the best k."""
    found = read({"user": [1, 1, 1], "item": ["a", "b", "c"], "score": [1.0, float("-inf"), 2.0]})
    assert found.items["item"].to_list() == ["c", "a"]
    assert found.notes == ("1 item with a score of -inf not ranked",)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7, 12], ["7", "12"]),
        ([7.0, 12.0], ["7", "12"]),
        (["07", "12"], ["07", "12"]),
        (pl.Series(["7", "12"], dtype=pl.Categorical), ["7", "12"]),
        (pl.Series([2**63 + 1, 2**53 + 1], dtype=pl.UInt64), ["9223372036854775809", "9007199254740993"]),
    ],
)
def test_ids_become_text_and_lose_nothing(values: Any, expected: list[str]):
    assert read({"user": values, "items": [["a"], ["b"]]}).rows["user"].to_list() == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"customr": [1], "items": [["a"]]}, "no column of users (user, user_id) among its columns customr, items"),
        ({"usr": [1], "items": [["a"]]}, "is it usr? then rename it"),
        ({"user": [1], "title": ["a"]}, "no column of items (items: a list each; or item_id, with rank or score)"),
        ({"user": [1], "user_id": [2], "items": [["a"]]}, "user and user_id could each be its user; leave one out"),
        ({"user": [1], "item": ["a"], "items": [["a"]]}, "items and item could each hold its items"),
        ({"user": [1], "items": [3.0]}, "items holds one Float64 per row, not a list; a table with an item per row"),
        (
            {"user": [1, 2], "item": ["a", "b"], "score": [1, 2], "model": ["x", "y"]},
            "it holds 2 recommenders by model (x, y); write a file for each",
        ),
        ({"user": [1, None], "items": [["a"], ["b"]]}, "1 rows have no user in user"),
        ({"user": ["1", " "], "items": [["a"], ["b"]]}, "1 rows have no user"),
        ({"user": [1.5], "items": [["a"]]}, "the user 1.5 is a float, and may be another id rounded"),
        ({"user": [float("nan")], "items": [["a"]]}, "the user nan is a float"),
        ({"user": [2.0**53], "items": [["a"]]}, "is a float, and may be another id rounded"),
        ({"user": pl.Series([2.0**24], dtype=pl.Float32), "items": [["a"]]}, "is a float, and may be another id"),
        ({"user": [True], "items": [["a"]]}, "its users are Boolean; write ids as text or whole numbers"),
        ({"user": [1], "items": [["a", None]]}, "1 of its items are empty"),
        ({"user": [1], "items": ["[1 2 ... 9]"]}, "the list in row 1 was cut short when it was printed"),
        ({"user": [1], "items": ["['a', 'b"]}, "the list in row 1 was cut short"),
        ({"user": [1, 2], "items": ["['a']", "[('a', 0.5)]"]}, "the list in row 2 holds something else than ids"),
        ({"user": [1], "items": ["['a', nan]"]}, "the list in row 1 holds an empty item"),
        ({"user": [1], "item": ["a"], "score": [float("nan")]}, "the score nan of user 1 is not a number"),
        ({"user": [1, 4], "item": ["a", "b"], "score": ["0.5", "high"]}, "the score high of user 4 is not a number"),
        ({"user": [1], "item": ["a"], "rank": ["first"]}, "the rank first of user 1 is not a number"),
        ({"user": [1], "item": ["a"], "rank": [2]}, "its ranks start at 2; ranks start at 0 or 1"),
        (
            {"user": [1, 1, 2], "item": ["a", "b", "a"], "rank": [1, 3, 1]},
            "user 1 has no item at rank 2, and ranks start at 1; number each user's items without gaps",
        ),
        ({"user": [1, 2], "item": ["a", "b"], "rank": [0, 1]}, "user 2 has no item at rank 0, and ranks start at 0"),
        ({"user": [1, 1, 1], "item": ["a", "b", "c"], "rank": [1, 1, 2]}, "user 1 has two items at rank 1"),
        ({"user": [1], "items": [["a", "b"]], "scores": [[1.0]]}, "user 1 has 2 items and 1 scores"),
        ({"user": [1], "items": [["a", "b"]], "scores": [[1.0, float("nan")]]}, "user 1 has an item whose score"),
        ({"user": [1], "items": [["a", "b"]], "scores": [[1.0, 2.0]]}, "the list of user 1 is not best first"),
        ({"user": [1], "item": ["a"], "score": [[0.5]]}, "score holds lists, while there is one item per row"),
        ({"user": pl.Series([1, "x"], dtype=pl.Object), "items": [["a"], ["b"]]}, "user mixes values of different"),
        ({"user": [], "items": []}, "it holds no user"),
    ],
)
def test_what_is_ambiguous_or_no_ranking_is_one_line(columns: dict[str, Any], expected: str):
    assert expected in refusal(columns)


def test_sets_have_no_order():
    frame = pl.DataFrame({"user": ["u", "v"], "items": ["{'a', 'b'}", "{'c'}"]})
    with pytest.raises(UserError, match="items holds sets or objects, which have no order"):
        ranked_lists(frame, "theirs", {"a", "b", "c"})


def test_printed_scores_beside_a_printed_list_say_its_order():
    """In CSV a list of scores is text; it is looked at as in Parquet."""
    frame = pl.DataFrame({"user": ["u", "v"], "items": ["['a', 'b']", "['c']"], "scores": ["[0.9 0.1]", "[0.5]"]})
    assert ranked_lists(frame, "theirs", {"a", "b", "c"}).items["item"].to_list() == ["a", "b", "c"]
    for scores, said in (("[0.1, 0.9]", "user u is not best first"), ("[0.9]", "user u has 2 items and 1 scores")):
        odd = frame.with_columns(scores=pl.Series([scores, "[0.5]"]))
        with pytest.raises(UserError, match=said):
            ranked_lists(odd, "theirs", {"a", "b", "c"})
