"""Rows are called by what tells them apart, and by nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest

from dig.comparison.labels import row_labels
from dig.comparison.runs import Run


def run(experiment: str, run_id: str = "a1", seed: int | None = 42, root: str = "runs") -> Run:
    return Run(f"{root}/{experiment}/{run_id}", Path(root, experiment, run_id), (), experiment, seed, None, (5,), {})


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(run("beauty"), "popularity"), (run("beauty"), "sft")], ["popularity", "sft"]),
        (
            [(run("beauty"), "popularity"), (run("beauty"), "sft"), (run("codes"), "sft")],
            ["popularity", "beauty/sft", "codes/sft"],
        ),
        ([(run("beauty", "a1", 1), "sft"), (run("beauty", "b2", 2), "sft")], ["seed-1/sft", "seed-2/sft"]),
        (
            [(run("beauty", "a1", 1), "sft"), (run("beauty", "b2", 2), "sft"), (run("codes", "c3", 1), "sft")],
            ["beauty/seed-1/sft", "beauty/seed-2/sft", "codes/sft"],
        ),
        ([(run("beauty", "a1"), "sft"), (run("beauty", "b2"), "sft")], ["a1/sft", "b2/sft"]),
        (
            [(run("beauty"), "sft"), (run("beauty", root="other"), "sft")],
            ["runs/beauty/a1/sft", "other/beauty/a1/sft"],
        ),
        ([(run("beauty", "a1", None), "sft"), (run("beauty", "b2", 2), "sft")], ["sft", "seed-2/sft"]),
        ([(run("\x1b[2Jred"), "sft"), (run("codes"), "sft")], ["[2Jred/sft", "codes/sft"]),
    ],
)
def test_labels(rows: list[tuple[Run, str]], expected: list[str]):
    assert row_labels(rows) == expected
