"""Comparing on the validation: other rankings, other examples, the same rules."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from comparison.conftest import ONE_HOP, TARGETS, USERS
from support.run_folders import rankings, targets_of, write_examples, write_rankings, write_run

from dig.comparison.contest import find_contests
from dig.comparison.measure import measure
from dig.comparison.render import csv_text, markdown
from dig.comparison.request import ComparisonRequest
from dig.config import UserError

VALID = targets_of(USERS[:50], seed=9)


def write_valid(folder: Path, skill: float, users: list[str], targets: list[str]) -> None:
    """Rankings of the validation, of fewer users and other targets than the test's."""
    write_rankings(folder / "recommendations_valid.parquet", users, targets, {"sft": rankings(targets, skill, seed=7)})
    write_examples(folder / "examples_valid.parquet", users, targets, ONE_HOP[: len(users)])


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs of which the second is better on the validation and worse on the test."""
    monkeypatch.chdir(tmp_path)
    root = Path("runs")
    for name, test, valid in (("one", 0.9, 0.2), ("two", 0.1, 0.8)):
        stages = {"sft": rankings(TARGETS, test, seed=3)}
        folder = write_run(root / name / "a1", USERS, TARGETS, stages, masked=stages, one_hop=ONE_HOP)
        write_valid(folder, valid, USERS[:50], VALID)
    return root


def test_rows_are_of_the_validation(runs: Path):
    (found,) = find_contests(ComparisonRequest(("one", "two"), metrics=("hr@10",), part="valid"))
    assert (found.part, found.masked, len(found.users)) == ("valid", False, 50)
    hits = [
        sum(target in row[:10] for target, row in zip(VALID, rankings(VALID, skill, seed=7), strict=True))
        for skill in (0.2, 0.8)
    ]
    assert [int(np.count_nonzero((row.ranks >= 0) & (row.ranks < 10))) for row in found.rows] == hits
    assert set(found.slices) == {"beneficiary", "non-beneficiary"}
    assert [sum(mask) for mask in found.slices.values()] == [ONE_HOP[:50].count(name) for name in found.slices]


def test_the_table_says_so(runs: Path):
    asked = ComparisonRequest(("one", "two"), metrics=("hr@10",), part="valid")
    table = measure(find_contests(asked)[0], draws=300, seed=1)
    written = markdown([table])
    assert written.startswith("**validation · leave-one-out · 50 users · history not masked**")
    assert "Checkpoints are chosen on the validation" in written
    assert {record["part"] for record in csv.DictReader(StringIO(csv_text([table])))} == {"valid"}
    test = measure(find_contests(ComparisonRequest(("one", "two"), metrics=("hr@10",)))[0], draws=300, seed=1)
    assert "Checkpoints" not in markdown([test]) and test.reference == 0 and table.reference == 1


def test_seeds_are_found_by_their_validation(runs: Path):
    stages = {"sft": rankings(TARGETS, 0.5, seed=3)}
    old = write_run(runs / "one" / "b2", USERS, TARGETS, stages, seed=43)
    asked = ComparisonRequest(("runs/one/a1", "two"), metrics=("hr@10",), part="valid", seeds="mean")
    assert [row.seeds for row in find_contests(asked)[0].rows] == [(42,), (42,)]
    write_valid(old, 0.3, USERS[:50], VALID)
    assert [row.seeds for row in find_contests(asked)[0].rows] == [(42, 43), (42,)]


def test_other_users_of_the_validation_are_told_with_their_setting(runs: Path):
    write_valid(runs / "two" / "a1", 0.8, USERS[:40], VALID[:40])
    with pytest.raises(UserError, match=r"were tested on different users: .* data.split and evaluation.valid_users"):
        find_contests(ComparisonRequest(("one", "two"), part="valid"))


def test_another_protocol_has_not_been_asked(runs: Path):
    with pytest.raises(UserError, match=r"evaluate it again with evaluation.mask_history=true, or choose with"):
        find_contests(ComparisonRequest(("one", "two"), part="valid", protocol="masked"))


def test_an_empty_validation_is_told(runs: Path):
    write_valid(runs / "one" / "a1", 0.8, [], [])
    with pytest.raises(UserError, match="holds no user: the validation of one is empty"):
        find_contests(ComparisonRequest(("one", "two"), part="valid"))
