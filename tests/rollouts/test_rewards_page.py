"""The page on rewards: its example runs as written, and its table names every term with its default."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dig.config import load_config
from dig.rollouts import REWARD_TERMS, RewardContext, Rollouts, total_reward
from dig.stages.rewards import required_facts

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")


@pytest.fixture
def term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    before = dict(REWARD_TERMS)
    (tmp_path / "cheap_rewards.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("cheap_rewards", None)
    REWARD_TERMS.clear()
    REWARD_TERMS.update(before)


def test_a_term_of_ones_own_in_ten_lines(term: None):
    (command,) = re.findall(r"`python -m dig.train (experiment=\S+ .*?)`", PAGE)
    experiment, *overrides = command.split()
    config = load_config(experiment.removeprefix("experiment="), overrides)
    assert required_facts(config)["counts"] == "bargain"
    rollouts = Rollouts.of_items(torch.tensor([[0, 3, -1]]), torch.tensor([3]), torch.zeros(1, 3), torch.zeros(1, 1))
    context = RewardContext(counts=torch.tensor([1, 2, 3, 9]))
    found = total_reward(rollouts, context, {"hit": 1.0, "bargain": config.grpo.reward.extra["bargain"]})
    assert found.total.tolist() == [[pytest.approx(0.1), 1.0, 0.0]]


def test_the_table_holds_every_term_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE, flags=re.MULTILINE))
    weights = load_config(None, ["data.source=quickstart"]).grpo.reward.weights
    assert {name: float(default) for name, default in rows.items()} == weights
    assert set(weights) == {name for name, term in REWARD_TERMS.items() if term.function.__module__.startswith("dig.")}
