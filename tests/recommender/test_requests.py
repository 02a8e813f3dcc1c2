"""What callers hand over is read as they have it, or refused in one line that says where it is and what is right."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from dig.config import UserError
from dig.recommender.recommender import Recommender
from dig.recommenders.popularity import Popularity

IDS = ["A", "B", "12", "0012", "C,1", " D", "7", "E"]
COUNTS = [5, 4, 9, 3, 8, 1, 2, 6]
ORDER = ["12", "C,1", "E", "A", "B", "0012", "7", " D"]


def popular() -> Recommender:
    return Recommender(Popularity(torch.tensor(COUNTS)), IDS)


class Asked(Recommender):
    """Tells which rows its ranker was asked for."""

    def __init__(self) -> None:
        outer: list[list[int]] = []

        class Noting(Popularity):
            def scores(self, histories):
                outer.extend(list(map(int, history)) for history in histories)
                return super().scores(histories)

        super().__init__(Noting(torch.tensor(COUNTS)), IDS)
        self.asked = outer


@pytest.mark.parametrize(
    "make",
    [
        lambda: [["A", "B"], ["B", "12"]],
        lambda: (("A", "B"), ("B", "12")),
        lambda: (iter(history) for history in (["A", "B"], ["B", "12"])),
        lambda: {"u1": ["A", "B"], "u2": ["B", "12"]}.values(),
        lambda: np.array([["A", "B"], ["B", "12"]]),
        lambda: np.array([["A", "B"], ["B", 12]], dtype=object),
        lambda: [np.array(["A", "B"]), np.array(["B", "12"], dtype=object)],
        lambda: pl.Series([["A", "B"], ["B", "12"]]),
        lambda: pl.Series([["A", "B"], ["B", "12"]], dtype=pl.Array(pl.String, 2)),
        lambda: pl.DataFrame({"items": [["A", "B"], ["B", "12"]]})["items"],
        lambda: [pl.Series(["A", "B"]), pl.Series(["B", "12"], dtype=pl.Categorical)],
        lambda: pd.Series([["A", "B"], np.array(["B", "12"])], index=[7, 3]),
        lambda: [pd.Series(["A", "B"], index=[5, 9]), pd.Index(["B", "12"])],
        lambda: [["A", np.str_("B")], ["B", 12]],
        lambda: [["A", "B"], ["B", np.int64(12)]],
        lambda: [["A", "B"], ["B", 12.0]],
    ],
)
def test_entry_19_histories_are_taken_in_whatever_holds_them(make: Callable[[], Any]):
    """Entry 19: arrays, columns, generators and whole numbers end in the same request as lists of texts."""
    recommender = Asked()
    items, scores = recommender.recommend(make(), 2)
    assert recommender.asked == [[0, 1], [1, 2]]
    assert items == [["12", "C,1"]] * 2 and scores.tolist() == [[9, 8]] * 2


def test_entry_19_whole_numbers_of_any_kind_stand_for_their_ids():
    for history in (
        torch.tensor([[12, 7]]),
        np.array([[12, 7]]),
        np.array([[12.0, 7.0]]),
        pl.Series([[12, 7]]),
        [[12, 7]],
    ):
        recommender = Asked()
        recommender.recommend(history, 1)
        assert recommender.asked == [[2, 6]]  # "12", and not "0012"


@pytest.mark.parametrize(
    "nobody", [[], (), np.array([]), np.empty((0, 5)), pl.Series([], dtype=pl.List(pl.String)), iter([])]
)
def test_entry_19_no_customers_get_no_answers(nobody: Any):
    items, scores = popular().recommend(nobody, 3)
    assert items == [] and scores.shape == (0, 3)


@pytest.mark.parametrize(
    ("histories", "said"),
    [
        (None, "histories is None; give one list of item ids for each customer"),
        ("A", "histories is 'A' and not a list of item ids"),
        (b"A", "histories is b'A' and not a list"),
        (12, "histories is 12 and not a list"),
        (np.array("A"), "histories is array('A', dtype='<U1') and not a list"),
        (["A", "B"], "histories is one history, ['A', 'B']; give a list of histories: [['A', 'B']]"),
        (["A", "B", "E"], "give a list of histories: [['A', 'B', …]]"),
        (np.array(["A", "B"]), "is one history"),
        (pl.Series(["A", "B"]), "is one history"),
        (pd.Series(["A", None]), "is one history"),
        ([12, 7], "is one history, [12, 7]"),
        (torch.tensor([12, 7]), "is one history, [12, 7]"),
        ([["A"], "B"], "histories[1] is 'B' and not a list of item ids"),
        ([["A"], 7], "histories[1] is 7 and not a list"),
        ([["A"], {"A", "B"}], "histories[1] is a set, which has no order; give a list, oldest first"),
        ({"A", "B"}, "histories is a set, which has no order"),
        ({"u1": ["A"]}, "histories is a dict; give its values: list(….values())"),
        ([{"A": 1}], "histories[0] is a dict"),
        (pl.DataFrame({"items": [["A"]]}), "histories is a table; give its column of item ids"),
        (pd.DataFrame({"items": [["A"]]}), "histories is a table"),
        (pl.LazyFrame({"items": [["A"]]}), "histories is a table"),
        ([["A"], [b"B"]], "histories[1][0] has the bytes b'B'; item ids are texts: decode them first"),
        ([np.array([b"A"])], "histories[0][0] has the bytes b'A'"),
        ([["A", ["B"]]], "histories[0][1] has ['B']; item ids are texts"),
        (np.array([[["A"]]]), "histories[0][0] has ['A']; item ids are texts"),
        ([["A", True]], "histories[0][1] has True; item ids are texts"),
        ([["A", 1.5]], "histories[0][1] has 1.5; item ids are texts, or whole numbers that stand for them"),
        ([["A", float("inf")]], "histories[0][1] has inf"),
        ([[datetime.date(2026, 1, 1)]], "has datetime.date(2026, 1, 1); item ids are texts"),
    ],
)
def test_entry_19_what_is_no_history_is_one_line(histories: Any, said: str):
    """Entry 19: each of these was a traceback, or was read letter by letter."""
    with pytest.raises(UserError) as caught:
        popular().recommend(histories, 3)
    assert said in str(caught.value) and "\n" not in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize("k", [2, 2.0, np.int64(2), np.float32(2.0), torch.tensor(2), np.array(2)])
def test_entry_19_a_whole_k_is_taken(k: Any):
    items, scores = popular().recommend([["A"]], k)
    assert items == [["12", "C,1"]] and scores.shape == (1, 2)


@pytest.mark.parametrize("k", [0, -1, 2.5, True, np.True_, "3", None, float("nan"), float("inf"), [3], 10**9])
def test_entry_19_another_k_is_one_line(k: Any):
    with pytest.raises(UserError, match=r"^k=.* (must be a whole number above 0|is more than the 8 items)") as caught:
        popular().recommend([["A"]], k)
    assert "\n" not in str(caught.value)


def test_entry_19_more_than_the_catalogue_has_is_said_once(capsys: pytest.CaptureFixture[str]):
    items, scores = popular().recommend([["A"], ["B"]], 11)
    assert items == [ORDER] * 2 and scores.shape == (2, 11) and torch.isneginf(scores[:, 8:]).all()
    assert capsys.readouterr().out == ("warning: 2 of 2 customers get fewer than k=11 answers: there are 8 items\n")


def test_entry_19_one_unknown_item_does_not_refuse_a_batch(capsys: pytest.CaptureFixture[str]):
    """Entry 19: what is unknown is left out with a count; whoever wants it refused says so."""
    recommender = Asked()
    histories = [["A", "B"], ["X", "A", None], ["B", float("nan")], ["Bee"]]
    items, scores = recommender.recommend(histories, 1)
    assert recommender.asked == [[0, 1], [0], [1]]
    assert items == [["12"], ["12"], ["12"], []] and scores.tolist() == [[9], [9], [9], [-float("inf")]]
    said = capsys.readouterr().out
    assert "4 of the 8 items in the histories are not in the catalogue and left out; the first: 'X' in" in said
    assert "1 of 4 customers have no item that the catalogue knows, and get no answers; the first: histories[3]" in said
    with pytest.raises(UserError, match=r"histories\[1\]\[0\]: the catalogue has no item 'X'.*unknown=drop leaves"):
        recommender.recommend(histories, 1, unknown="refuse")
    with pytest.raises(UserError, match=r"histories\[3\] is empty without the items that the catalogue lacks"):
        recommender.recommend(histories, 1, empty="refuse")


def test_entry_19_one_empty_history_does_not_refuse_a_batch(capsys: pytest.CaptureFixture[str]):
    for nothing in ([], None, float("nan"), np.array([]), pl.Series([], dtype=pl.String), ()):
        items, scores = popular().recommend([nothing, ["A"]], 2)
        assert items == [[], ["12", "C,1"]] and torch.isneginf(scores[0]).all()
        assert "1 of 2 customers have no item" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"histories\[1\] is empty; there is nothing to recommend from \(empty=skip"):
        popular().recommend([["A"], []], 2, empty="refuse")
    assert popular().recommend([[], []], 2)[0] == [[], []]


@pytest.mark.parametrize(
    ("histories", "said"),
    [
        ([["X"]], "histories[0][0]: the catalogue has no item 'X'"),
        ([["X", "Y"]], "the catalogue has no item 'X', nor the other one"),
        ([["X", "Y"], ["Z"]], "the catalogue has no item 'X', nor any of the 2 others"),
        ([["012"]], "the catalogue has no item '012'; did you mean '12'?"),
        ([["a"]], "the catalogue has no item 'a'; did you mean 'A'?"),
        ([["D"]], "the catalogue has no item 'D'; did you mean ' D'?"),
        ([["7.0"]], "the catalogue has no item '7.0'; did you mean '7'?"),
        ([[1200]], "the catalogue has no item 1200; did you mean "),
        ([["X\nY"]], "has no item 'X\\nY'"),
    ],
)
def test_entry_19_where_nothing_is_known_ids_are_of_another_kind(histories: Any, said: str):
    """All unknown is not an odd item, but another catalogue, or ids that a program has changed in passing."""
    with pytest.raises(UserError) as caught:
        popular().recommend(histories, 3)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"unknown": "ignore"}, "unknown='ignore' must be one of 'drop', 'refuse'"),
        ({"empty": None}, "empty=None must be one of 'skip', 'refuse'"),
        ({"unseen": "false"}, "unseen='false' must be True, False or None"),
        ({"unseen": 1}, "unseen=1 must be"),
    ],
)
def test_other_arguments_are_checked(named: dict[str, Any], said: str):
    with pytest.raises(UserError, match=said):
        popular().recommend([["A"]], 3, **named)


@pytest.mark.parametrize(
    "stock", [["E", "A", "A"], {"E", "A"}, np.array(["A", "E"]), pl.Series(["A", "E"]), iter("AE")]
)
def test_entry_21_stock_is_taken_in_whatever_holds_it(stock: Any):
    assert popular().recommend([["B"]], 2, stock=stock)[0] == [["E", "A"]]


def test_entry_21_a_stock_that_the_catalogue_lacks_in_part_is_counted(capsys: pytest.CaptureFixture[str]):
    items, _ = popular().recommend([["B"], ["E"]], 3, unseen=True, stock=["E", "X", 12, "Y"])
    assert items == [["12", "E"], ["12"]]
    said = capsys.readouterr().out
    assert "2 of the 4 items in stock are not in the catalogue and left out; the first: 'X'" in said
    assert "2 of 2 customers get fewer than k=3 answers: there are 2 items in stock, less those of the history" in said


@pytest.mark.parametrize(
    ("stock", "said"),
    [
        ([], "stock has no items"),
        (["X", "Y"], "stock: the catalogue has no item 'X', nor the other one"),
        ("stock.csv", "stock is 'stock.csv' and not a list of item ids"),
        ({"A": 0, "E": 3}, "stock is a dict"),
        (pl.DataFrame({"item_id": ["A"]}), "stock is a table"),
        ([["A"]], "stock has ['A']; item ids are texts"),
    ],
)
def test_entry_21_what_is_no_stock_is_one_line(stock: Any, said: str):
    with pytest.raises(UserError) as caught:
        popular().recommend([["A"]], 3, stock=stock)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_entry_19_a_stock_by_quantity_is_not_a_list_of_ids():
    """Its values would be the quantities."""
    with pytest.raises(UserError, match="stock is a dict; give its ids as a list"):
        popular().recommend([["A"]], 3, stock={"A": 4, "B": 0})


@pytest.mark.parametrize("device", ["cudaa", "cuda:99", 3.5])
def test_entry_19_a_device_that_is_not_there_is_one_line(device: Any, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        Recommender.from_run(tmp_path, device=device)
    said = str(caught.value)
    assert said.startswith(f"device={device} cannot be used here (") and "\n" not in said


@pytest.mark.parametrize("items", ["B", b"B", None])
def test_entry_19_what_is_to_be_explained_is_a_list(items: Any):
    with pytest.raises(UserError, match=r"^items is .* and not a list of item ids"):
        popular().explain(["A"], items)
