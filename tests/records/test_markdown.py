"""Numbers and cells."""

from __future__ import annotations

import pytest

from dig.records.markdown import heading, markdown_table, number, seconds


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (None, False, "–"),
        (0.05456, False, ".0546"),
        (0.0, False, "0"),
        (1.0, False, "1"),
        (0.99999, False, "1.0000"),
        (1.0449, False, "1.04"),
        (12101, False, "12,101"),
        (-0.0123, False, "−.0123"),
        (-0.00001, False, ".0000"),
        (0.001, True, "+.0010"),
        (-0.001, True, "−.0010"),
        (0.0, True, "+.0000"),
        (-0.00001, True, "+.0000"),
    ],
)
def test_numbers(value: float | None, signed: bool, text: str):
    assert number(value, signed) == text


def test_headings_and_seconds():
    assert [heading(name) for name in ("hr@5", "mrr@10", "popularity_lift@10")] == [
        "HR@5",
        "MRR@10",
        "popularity lift@10",
    ]
    assert [seconds(value) for value in (None, 4.26, 43.1, 1987.6)] == ["–", "4.3", "43", "1,988"]


def test_cells_cannot_break_a_table():
    assert markdown_table(["a", "b", "c"], [["x | y", "two\nlines", "1"]], (0, 1)) == (
        "| a | b | c |\n|---|---|---:|\n| x \\| y | two lines | 1 |"
    )
