"""The numbers of a table against polars and against the statistics they are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from comparison.conftest import ONE_HOP, TARGETS, USERS
from support.run_folders import rankings, write_run

from dig.comparison.contest import find_contests
from dig.comparison.measure import Comparison, measure
from dig.comparison.request import ComparisonRequest
from dig.evaluation.paired import bootstrap_interval, holm, metric_gains, paired_difference


def compared(*runs: str, number: int = 0, **asked) -> Comparison:
    return measure(find_contests(ComparisonRequest(runs, **asked))[number], draws=500, seed=3)


def by_polars(path: Path, stage: str, k: int, users: set[str] | None = None) -> dict[str, float]:
    """The metrics of one recommender, the obvious way."""
    rows = pl.read_parquet(path).filter(pl.col("stage") == stage).explode("items", "scores")
    rows = rows.filter(pl.col("user").is_in(list(users or set(USERS))))
    rows = rows.with_columns(place=pl.int_range(1, pl.len() + 1).over("user"))
    hits = rows.filter((pl.col("items") == pl.col("target")) & (pl.col("place") <= k))
    count = rows["user"].n_unique()
    return {
        "hr": len(hits) / count,
        "ndcg": (1 / (hits["place"] + 1).log(2)).sum() / count,
        "mrr": (1 / hits["place"]).sum() / count,
    }


def test_values_are_those_of_polars(runs: Path):
    table = compared("beauty", "plain_codes", metrics=("hr", "ndcg", "mrr"))
    files = [runs / "beauty" / "a1", runs / "beauty" / "a1", runs / "plain_codes" / "b2"]
    for row, cells, folder in zip(table.contest.rows, table.cells, files, strict=True):
        for column, cell in zip(table.columns, cells, strict=True):
            part = (
                None
                if column.slice is None
                else {user for user, name in zip(USERS, ONE_HOP, strict=True) if name == column.slice}
            )
            family, _, k = column.metric.partition("@")
            expected = by_polars(folder / "recommendations.parquet", row.stage, int(k), part)[family]
            assert cell.value.mean == pytest.approx(expected, abs=1e-12), (row.label, column)
    counts = [(column.metric, column.slice, column.users, column.examples) for column in table.columns]
    assert counts[:6] == [(name, None, 200, 200) for name in ("hr@5", "hr@10", "ndcg@5", "ndcg@10", "mrr@5", "mrr@10")]
    assert counts[6:] == [("ndcg@10", "beneficiary", 150, 150), ("ndcg@10", "non-beneficiary", 50, 50)]
    assert table.columns[table.main].metric == "ndcg@10"


def test_the_masked_table_is_of_the_masked_file(runs: Path):
    table = compared("beauty", number=1)
    file = runs / "beauty" / "a1" / "recommendations_masked.parquet"
    values = [cells[table.main].value.mean for cells in table.cells]
    assert values == pytest.approx([by_polars(file, stage, 10)["ndcg"] for stage in ("popularity", "sft")])


def test_intervals_and_differences_are_those_of_the_statistics(runs: Path):
    table = compared("beauty", "plain_codes")
    ranks = [row.ranks[0] for row in table.contest.rows]
    assert table.reference == 1  # the best
    masks = {None: np.ones(200, dtype=bool), **table.contest.slices}
    for number, column in enumerate(table.columns):
        gains = [metric_gains(column.metric, one[masks[column.slice]]) for one in ranks]
        found = [cells[number] for cells in table.cells]
        assert [cell.value for cell in found] == [bootstrap_interval(one, 500, seed=3) for one in gains]
        expected = [paired_difference(gains[1], gains[row], 500, seed=3) for row in (0, 2)]
        assert [found[0].gain, found[1].gain, found[2].gain] == [expected[0], None, expected[1]]
        corrected = holm([one.p_value for one in expected])
        assert [found[0].p_holm, found[1].p_holm, found[2].p_holm] == [corrected[0], None, corrected[1]]


def test_the_reference_is_the_best_in_the_last_ndcg_or_the_one_asked_for(runs: Path):
    first = [[target, *["item000"] * 9] if number < 80 else ["none"] * 10 for number, target in enumerate(TARGETS)]
    tenth = [[*["none"] * 9, target] if number < 100 else ["none"] * 10 for number, target in enumerate(TARGETS)]
    write_run(runs / "sure" / "k1", USERS, TARGETS, {"sft": first, "grpo": tenth})
    assert compared("sure").reference == 0  # ndcg
    assert compared("sure", metrics=("ndcg@10", "hr@10")).reference == 0
    assert compared("sure", metrics=("hr@10",)).reference == 1
    assert compared("sure", metrics=("mrr@5", "mrr@10")).main == 1
    assert compared("sure", against="grpo").reference == 1
    assert compared("sure", against="grpo").cells[0][3].gain.difference == pytest.approx(0.4 - 0.5 / np.log2(11))


def test_rows_that_earn_the_same_are_told(runs: Path):
    one = rankings(TARGETS, 0.4, seed=3)
    other = [[*row[:10], *reversed(row[10:])] for row in one]  # differs where nobody looks
    write_run(runs / "tuned" / "c3", USERS, TARGETS, {"sft": one, "grpo": other})
    table = compared("tuned")
    assert table.notes == ("grpo and sft earn the same for every user, so p = 1",)
    assert table.cells[1][table.main].gain.p_value == table.cells[1][table.main].p_holm == 1.0


def test_users_with_several_examples_are_resampled_with_all_of_them(runs: Path):
    users = [f"user{number % 40:02}" for number in range(200)]
    stages = {"sft": rankings(TARGETS, 0.4, 1), "grpo": rankings(TARGETS, 0.5, 2)}
    write_run(runs / "timed" / "j1", users, TARGETS, stages)
    table = compared("timed", against="sft")
    assert (table.columns[0].users, table.columns[0].examples) == (40, 200)
    sft, grpo = (metric_gains("ndcg@10", row.ranks[0]) for row in table.contest.rows)
    assert table.cells[1][table.main].gain == paired_difference(sft, grpo, 500, seed=3, users=table.contest.users)
