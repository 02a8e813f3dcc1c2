"""Runs that are killed at random moments end as if nobody had; `make test-kills` does it twenty times."""

from __future__ import annotations

from pathlib import Path

import kills
from support.workplace import SMALL


def test_a_run_killed_at_random_moments_ends_as_an_undisturbed_one(tmp_path: Path):
    fast = ("baselines=[popularity]", "sft.epochs=2", "grpo.max_steps=4")
    metrics, seconds = kills.undisturbed(tmp_path / "undisturbed", fast, SMALL)
    for number, moment in enumerate(kills.moments(2, seconds, seed=1)):
        trial = kills.kill_and_go_on(tmp_path / str(number), moment, metrics, fast, SMALL)
        assert trial.kept and trial.equal, trial


def test_moments_lie_in_all_parts_of_a_run():
    drawn = kills.moments(20, 60.0, seed=3)
    assert [int(moment // 3.0) for moment in drawn] == list(range(20))
    assert drawn == kills.moments(20, 60.0, seed=3) != kills.moments(20, 60.0, seed=4)
