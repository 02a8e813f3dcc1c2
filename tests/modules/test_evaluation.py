"""Evaluation on several processes: the metrics and rankings of one, to the last digit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import ranks_of_evaluation
from support.preloaded import run_ranks
from support.ranks_of_evaluation import EXAMPLES, found_by


def in_processes(devices: int, folder: Path, examples: int = EXAMPLES, kind: str = "item_knn") -> dict:
    """The same on so many processes."""
    file = folder / f"{devices}-{examples}.pt"
    ended = run_ranks(devices, ranks_of_evaluation.__file__, devices, file, examples, kind)
    assert ended == [0] * devices
    return torch.load(file)


@pytest.mark.parametrize(
    ("devices", "examples", "kind"),
    [
        (2, EXAMPLES, "item_knn"),
        (3, EXAMPLES, "item_knn"),
        (3, 2, "item_knn"),
        (3, EXAMPLES, "sasrec"),
        (2, EXAMPLES, "tiger"),
        (2, EXAMPLES, "intrr"),
    ],
)
def test_several_processes_find_what_one_finds(devices: int, examples: int, kind: str, tmp_path: Path):
    one, several = found_by(1, examples, kind), in_processes(devices, tmp_path, examples, kind)
    assert set(one) == set(several) == {"test", "test_masked"}
    for name, (metrics, ranked, scores) in one.items():
        assert several[name][0] == metrics
        assert torch.equal(several[name][1], ranked) and torch.equal(several[name][2], scores)
        assert ranked.shape == (examples, 6) and (ranked[:, 0] >= 0).all()


def test_a_score_that_is_no_number_on_one_rank_is_said_on_all(tmp_path: Path):
    one, several = found_by(1, kind="broken"), in_processes(2, tmp_path, kind="broken")
    assert one == several and one["said"] == f"example {one['first']} has a NaN score"
