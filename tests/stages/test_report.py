"""What report adds to the tests: how sure it is that GRPO is above SFT."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import polars as pl
import pytest

from dig.evaluation.paired import paired_difference
from dig.stages.report import _over


def test_a_user_with_many_tests_is_resampled_with_all_of_them():
    users = np.repeat([f"u{user}" for user in range(6)], 20)  # whose tests are all alike
    better = np.repeat([True, True, True, True, False, False], 20)
    table = {"user": users, "target": ["t"] * len(users)}
    first = pl.DataFrame(table | {"items": [["x"]] * len(users), "stage": "sft"})
    second = pl.DataFrame(table | {"items": [["t"] if hit else ["x"] for hit in better], "stage": "grpo"})
    found = _over(pl.concat([first, second]), "sft", "grpo", [1])["hr@1"]
    gain = better.astype(float)
    assert found == asdict(paired_difference(np.zeros(len(users)), gain, users=users))
    alone = paired_difference(np.zeros(len(users)), gain)
    assert found["difference"] == pytest.approx(4 / 6)
    assert found["high"] - found["low"] > 2 * (alone.high - alone.low)
