"""Two experiments on the same users: what most tests of comparisons look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.run_folders import rankings, targets_of, write_run

USERS = [f"user{number:03}" for number in range(200)]
TARGETS = targets_of(USERS)
ONE_HOP = ["beneficiary" if number % 4 else "non-beneficiary" for number in range(200)]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``runs``; ``beauty`` and ``plain_codes`` share popularity, and only the first knows slices."""
    monkeypatch.chdir(tmp_path)
    root = Path("runs")
    popular = rankings(TARGETS, 0.05, seed=1)
    masked = rankings(TARGETS, 0.06, seed=2)
    write_run(
        root / "beauty" / "a1",
        USERS,
        TARGETS,
        {"popularity": popular, "sft": rankings(TARGETS, 0.5, seed=3)},
        masked={"popularity": masked, "sft": rankings(TARGETS, 0.6, seed=4)},
        one_hop=ONE_HOP,
    )
    order, other = range(199, -1, -1), rankings(TARGETS, 0.3, seed=5)  # an older run: another order, no numbers
    stages = {"popularity": [popular[row] for row in order], "sft": [other[row] for row in order]}
    write_run(
        root / "plain_codes" / "b2",
        [USERS[row] for row in order],
        [TARGETS[row] for row in order],
        stages,
        numbered=False,
    )
    return root
