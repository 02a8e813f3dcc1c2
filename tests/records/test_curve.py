"""A stage's validation by epoch, from the logs of its attempts."""

from __future__ import annotations

from pathlib import Path

import pytest

from dig.records.curve import thinned_curve, validation_curve

FIRST = """epoch,step,train/loss,valid/hr@10,valid/ndcg@10
0,9,1.5,,
0,10,,0.01,0.005
1,20,,0.02,0.01
"""
SECOND = """epoch,lr,step,valid/ndcg@10,valid/hr@10
1,,20,0.0111111111,0.025
,0.1,25,,
2,,30,nan,0.03
3,,40,1e-"""


def test_later_attempts_count_and_training_rows_do_not(tmp_path: Path):
    for attempt, text in (("000", FIRST), ("001", SECOND)):
        (tmp_path / attempt).mkdir()
        (tmp_path / attempt / "metrics.csv").write_text(text)
    assert validation_curve(tmp_path) == [
        {"epoch": 1, "hr@10": 0.01, "ndcg@10": 0.005},
        {"epoch": 2, "hr@10": 0.025, "ndcg@10": 0.011111},
        {"epoch": 3, "hr@10": 0.03},
    ]
    assert validation_curve(tmp_path / "nothing") == []


@pytest.mark.parametrize(("points", "most"), [(1, 5), (5, 5), (26, 14), (100, 2)])
def test_thinning_keeps_both_ends(points: int, most: int):
    curve = [{"epoch": float(epoch)} for epoch in range(1, points + 1)]
    found = [each["epoch"] for each in thinned_curve(curve, most)]
    assert found[0] == 1 and found[-1] == points
    assert len(found) == min(points, most) and found == sorted(set(found))
