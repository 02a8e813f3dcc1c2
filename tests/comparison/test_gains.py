"""Differences by slice, absolute and as a share: who gains, where a mean hides it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from comparison.conftest import ONE_HOP

from dig.comparison.contest import find_contests
from dig.comparison.measure import Comparison, measure
from dig.comparison.render import latex, markdown, text
from dig.comparison.request import ComparisonRequest
from dig.config import UserError
from dig.evaluation.paired import holm, metric_gains, paired_difference

SLICES = ("", "beneficiary", "non-beneficiary")


@pytest.fixture
def table(runs: Path) -> Comparison:
    asked = ComparisonRequest(("beauty", "plain_codes"), metrics=("hr@5",), against="plain_codes/sft")
    return measure(find_contests(asked)[0], draws=300, seed=1, every_slice=True)


def test_each_slice_has_its_difference_and_share(table: Comparison):
    ranks = [metric_gains("hr@5", row.ranks[0]) for row in table.contest.rows]
    lines = [line for line in markdown([table]).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert rows[0][4:] == ["Δ HR@5", "p", "Δ HR@5 beneficiary", "p", "Δ HR@5 non-beneficiary", "p"]
    assert [row[0] for row in rows[2:]] == ["popularity", "beauty/sft", "plain\\_codes/sft"]
    for place, name in enumerate(SLICES):
        mask = np.array([not name or label == name for label in ONE_HOP])
        found = [paired_difference(ranks[2][mask], ranks[row][mask], 300, seed=1) for row in (0, 1)]
        corrected = holm([gain.p_value for gain in found])
        base = ranks[2][mask].mean()
        for row, (gain, p) in enumerate(zip(found, corrected, strict=True)):
            told = f"{gain.difference:+.4f} ({gain.difference / base:+.1%}) ({gain.low:+.4f} to {gain.high:+.4f})"
            assert rows[2 + row][4 + 2 * place] == told
            assert rows[2 + row][5 + 2 * place].lstrip("\\") == ("<0.001" if p < 0.001 else f"{p:.3f}")
        assert rows[4][4 + 2 * place :][:2] == ["reference", ""]


def test_text_and_latex_say_the_same(table: Comparison):
    shares = re.findall(r"\(([+-][\d.]+)%\)", markdown([table]))
    assert len(shares) == 6
    assert re.findall(r"\(([+-][\d.]+)%\)", text([table])) == shares
    assert re.findall(r"\(([+-][\d.]+)\\%\)", latex([table])) == shares
    for written in (text([table]), markdown([table]), latex([table])):
        assert "in brackets as a share of what it has" in written


def test_without_it_the_table_is_as_before(runs: Path):
    asked = ComparisonRequest(("beauty", "plain_codes"), metrics=("hr@5",))
    plain = measure(find_contests(asked)[0], draws=300, seed=1)
    assert plain.gains == (plain.main,)
    assert "%)" not in markdown([plain]) and "share" not in markdown([plain])


def test_a_reference_without_a_hit_has_no_share(runs: Path):
    asked = ComparisonRequest(("beauty", "plain_codes"), metrics=("hr@1",), against="popularity")
    contest = find_contests(asked)[0]
    contest.rows[0].ranks[:] = -1
    written = markdown([measure(contest, draws=300, seed=1, every_slice=True)])
    assert "%)" not in written and "inf" not in written and "nan" not in written


def test_without_slices_there_is_nothing_to_show(runs: Path):
    contest = find_contests(ComparisonRequest(("beauty",), slices="none"))[0]
    with pytest.raises(UserError, match="--gains slices: there are no slices; name some by --slices"):
        measure(contest, draws=300, seed=1, every_slice=True)
