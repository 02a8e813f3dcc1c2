"""A recommender of one's own: asked for a run's test users, written as a file, compared; all from Python."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from comparison.conftest import ONE_HOP, TARGETS, USERS
from support.run_folders import ITEMS, rankings, write_run

from dig.compare import main
from dig.comparison import compare, write_rankings
from dig.config import UserError
from dig.evaluation import Scorer

HISTORIES = [[ITEMS[(number + step) % 50] for step in range(3)] for number in range(200)]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    sft = rankings(TARGETS, 0.5, seed=3)
    return write_run(
        Path("runs/shop/a1"),
        USERS,
        TARGETS,
        {"sft": sft},
        one_hop=ONE_HOP,
        histories=HISTORIES,
        catalogue=ITEMS,
        masked={"sft": sft},
    )


class NextNumber:
    """Recommends the items that follow the last one by their number."""

    def __init__(self, **changes: Any) -> None:
        self.changes, self.asked = changes, []

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> Any:
        self.asked.append((len(histories), k))
        last = [ITEMS.index(history[-1]) for history in histories]
        return self.changes.get("answer", [[ITEMS[(row - 1 + step) % 50] for step in range(k)] for row in last])


class ByRow(Scorer):
    """The same as a scorer of catalogue rows."""

    def scores(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        last = torch.tensor([int(history[-1]) for history in histories])
        return -((torch.arange(50) - last.unsqueeze(1) + 1) % 50).float()


def test_lists_are_written_as_compare_reads_them(shop: Path, capsys: pytest.CaptureFixture[str]):
    """Newcomers 8: a baseline of one's own is in the table without a change to the package."""
    ours = NextNumber()
    table = write_rankings(shop, ours, "out/next.parquet", k=12, batch_size=64)
    assert ours.asked == [(64, 12), (64, 12), (64, 12), (8, 12)]
    assert table.equals(pl.read_parquet("out/next.parquet"))
    assert table["user"].to_list() == USERS and table["target"].to_list() == TARGETS
    assert (
        main(
            [
                "shop:sft",
                "next number=out/next.parquet",
                "--format",
                "csv",
                "--metrics",
                "hr@12,mrr@12",
                "--draws",
                "200",
            ]
        )
        == 0
    )
    records = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    found = {
        record["metric"]: float(record["value"])
        for record in records
        if record["row"] == "next number" and record["history"] == "unmasked" and not record["slice"]
    }
    places = [
        (ITEMS.index(target) - ITEMS.index(history[-1]) + 1) % 50 + 1
        for target, history in zip(TARGETS, HISTORIES, strict=True)
    ]
    hits = [place for place in places if place <= 12]
    assert found["hr@12"] == pytest.approx(len(hits) / 200)
    assert found["mrr@12"] == pytest.approx(sum(1 / place for place in hits) / 200)


@pytest.mark.parametrize("unseen", [False, True])
def test_ids_and_catalogue_rows_give_the_same_lists(shop: Path, unseen: bool):
    by_ids = write_rankings(shop, NextNumber(), "ids.parquet", k=7, unseen=unseen)
    by_rows = write_rankings(shop, ByRow(), "rows.parquet", k=7, unseen=unseen)
    assert by_ids["items"].equals(by_rows["items"])
    assert by_rows["scores"].list.len().to_list() == [7] * 200
    repeats = [set(row) & set(history) for row, history in zip(by_ids["items"].to_list(), HISTORIES, strict=True)]
    assert any(repeats) is not unseen


def test_lists_with_scores_as_the_recommender_gives_them(shop: Path):
    class WithScores(NextNumber):
        def recommend(self, histories: Sequence[Sequence[str]], k: int) -> Any:
            lists = super().recommend(histories, k)
            return [row[:-1] for row in lists], -torch.arange(k).float().expand(len(lists), -1)

    table = write_rankings(shop, WithScores(), "scored.parquet", k=4)
    assert table["scores"].to_list() == [[0.0, -1.0, -2.0]] * 200
    assert table["items"].list.len().to_list() == [3] * 200


@pytest.mark.parametrize(
    ("recommender", "expected"),
    [
        (NextNumber(answer=[["item001"]]), "NextNumber: it answered 200 histories with 1 lists"),
        (NextNumber(answer=None), "NextNumber: it answered 200 histories with no lists"),
        (NextNumber(answer=["item001"] * 200), "NextNumber: recommend must give a list of item ids for each history"),
        (
            NextNumber(answer=([["item001"]] * 200, [[float("nan")]] * 200)),
            "NextNumber: it scores an item of user user000 with NaN",
        ),
        (object(), "object: a recommender has recommend(histories, k), or rank(histories, k)"),
    ],
)
def test_answers_that_are_no_lists_are_one_line(shop: Path, recommender: Any, expected: str):
    with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
        write_rankings(shop, recommender, "out.parquet")
    assert expected in str(caught.value) and not Path("out.parquet").exists()


def test_what_a_run_must_have(shop: Path):
    with pytest.raises(UserError, match="runs is not a run folder: it has no config"):
        write_rankings("runs", NextNumber(), "out.parquet")
    with pytest.raises(UserError, match="has no examples_valid"):
        write_rankings(shop, NextNumber(), "out.parquet", part="valid")
    with pytest.raises(UserError, match="k must be at least 1, it is 0"):
        write_rankings(shop, NextNumber(), "out.parquet", k=0)
    with pytest.raises(UserError, match="runs cannot be written: Is a directory"):
        write_rankings(shop, NextNumber(), "runs")
    (shop / "items.parquet").unlink()
    with pytest.raises(UserError, match="has no items"):
        write_rankings(shop, ByRow(), "out.parquet")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"protocol": "maskd"}, "protocol maskd: no such choice; did you mean masked?"),
        ({"missing": "skip"}, "missing skip: no such choice; there are miss, drop"),
        ({"slices": "onehop"}, "slices onehop: no such choice; did you mean one-hop?"),
        ({"part": "train"}, "part train: no such choice"),
        ({"metrics": "hr@x"}, "hr@x needs a whole number above 0"),
        ({"against": "sfd"}, "no row is called so"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(shop: Path, asked: dict[str, str], expected: str):
    with pytest.raises(UserError) as caught:
        compare("shop:sft", rankings={"mine": {USERS[0]: ITEMS}}, **asked)
    assert caught.value.exit_code == 2 and expected in str(caught.value)


def test_a_comparison_is_a_table_in_python(shop: Path):
    lists = [ITEMS[:10]] * 200
    write_rankings(shop, NextNumber(), "next.parquet")
    mine = {
        "lists": dict(zip(USERS, lists, strict=True)),
        "frame": pd.DataFrame({"user": USERS, "items": lists}),
        "file": Path("next.parquet"),
    }
    table = compare("shop:sft", rankings=mine, metrics="hr@10", against="sft", draws=200, protocol="unmasked")
    assert table["row"].unique(maintain_order=True).to_list() == ["sft", "lists", "frame", "file"]
    whole = table.filter(pl.col("slice").is_null())
    share = sum(target in ITEMS[:10] for target in TARGETS) / 200
    assert whole["value"].to_list()[1:3] == pytest.approx([share, share])
    gains = (whole["value"] - whole["value"][0]).to_list()[1:]
    assert whole["difference"].to_list() == [None, *map(pytest.approx, gains)]
    assert whole["p_holm"].is_null().to_list() == [True, False, False, False]
