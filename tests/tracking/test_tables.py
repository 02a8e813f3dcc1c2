"""Tables of a run: numbers as they are, texts from outside cut and plain."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from support.finished_run import measured

from dig.tracking.tables import metric_rows, recommendation_rows, slice_rows, summary_values

NASTY = "<script>alert(1)</script>\x1b[31m\n\u202e" + "long " * 100


@pytest.fixture
def run(tmp_path: Path) -> Path:
    items = [f"i{number}" for number in range(30)]
    titles = [NASTY, None, *(f"Title {number}" for number in range(2, 30))]
    pl.DataFrame({"item_id": items, "title": titles}).write_parquet(tmp_path / "items.parquet")
    pl.DataFrame(
        {"example": range(20), "user": [f"user-{number}" for number in range(20)], "history": [items[:15]] * 19 + [[]]}
    ).write_parquet(tmp_path / "examples.parquet")
    frames = [
        pl.DataFrame(
            {
                "example": range(20),
                "user": [f"user-{number}" for number in range(20)],
                "target": ["i2"] * 20,
                "items": [items[first : first + 12]] * 20,
                "scores": [[1.0 - place / 7 for place in range(12)]] * 20,
                "stage": [stage] * 20,
            }
        )
        for stage, first in (("sft", 0), ("grpo", 5))
    ]
    pl.concat(frames).write_parquet(tmp_path / "recommendations.parquet")
    return tmp_path


def test_recommendations_are_told_in_words(run: Path) -> None:
    found = recommendation_rows(run, samples=5)
    assert [row[:2] for row in found.rows[:4]] == [[0, "sft"], [0, "grpo"], [4, "sft"], [4, "grpo"]]
    assert len(found.rows) == 2 * 5
    _, _, history, target, place, top = found.rows[0]
    assert history.split(" → ") == [f"Title {number}" for number in range(5, 15)]
    assert (target, place, found.rows[1][4]) == ("Title 2", 3, None)
    lines = top.split("\n")
    assert len(lines) == 10 and lines[1:3] == ["2. i1 (0.8571)", "3. Title 2 (0.7143)"]
    assert lines[0].startswith("1. <script>alert(1)</script>[31m long ") and len(lines[0]) < 100
    assert not any(char in top for char in "\x1b\u202e")


def test_as_many_tests_as_asked_and_no_ids_of_users(run: Path) -> None:
    assert recommendation_rows(run, samples=0).rows == []
    assert len(recommendation_rows(run, samples=1000).rows) == 40
    assert not any("user" in str(row) for row in recommendation_rows(run, samples=1000).rows)


def test_metrics_with_intervals_and_slices() -> None:
    metrics = {"sft": measured(0.1), "popularity": measured(0.05, masks=True)}
    rows = metric_rows(metrics).rows
    assert ["sft", "test", "hr@5", 0.1, pytest.approx(0.09), pytest.approx(0.11)] in rows
    assert ["popularity", "test_unmasked", "coverage@10", 0.25, None, None] in rows
    assert ["sft", "test", "target: cold", "examples", 5] in slice_rows(metrics).rows
    summary = summary_values(metrics)
    assert summary["sft/test/hr@5"] == 0.1 and summary["sft/split"] == "leave-one-out"
    assert not any("slices" in name or "intervals" in name for name in summary)


def test_a_run_without_recommenders() -> None:
    assert metric_rows({}).rows == slice_rows({}).rows == [] and summary_values({}) == {}
