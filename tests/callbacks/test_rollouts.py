"""What watches rollouts: stall warnings after enough bad batches in a row, once; which groups are shown, how often."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import WandbLogger
from torch.utils.data import DataLoader

from callbacks import monitoring
from callbacks.monitoring import RolloutHealth, RolloutSamples
from dig.rollouts import RewardContext, Rollouts, group_advantages, total_reward

DEAD, KL = "rollout/frac_reward_zero_std", "train/kl"
ITEMS = ["a", "b", "c", "d"]
TITLES = ["Pan", "<script>alert(1)</script>", None, "Lid"]
INTERESTS = ["cooking for two", None, "camping", "cooking for two"]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(monitoring, "warn", lines.append)
    return lines


def feed(health: RolloutHealth, name: str, values: list[float]) -> None:
    for value in values:
        trainer: Any = SimpleNamespace(callback_metrics={name: torch.tensor(value)})
        health.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]


def test_dead_groups_are_said_after_patience_and_once(said: list[str]):
    health = RolloutHealth(patience=3)
    feed(health, DEAD, [1.0, 1.0])
    assert said == []
    feed(health, DEAD, [0.96])
    assert len(said) == 1
    assert "96%" in said[0] and "last 3 batches" in said[0] and "grpo.group_size" in said[0]
    feed(health, DEAD, [1.0] * 5 + [0.0] + [1.0] * 5)
    assert len(said) == 1


def test_a_good_batch_starts_the_count_anew(said: list[str]):
    health = RolloutHealth(patience=3)
    feed(health, DEAD, [1.0, 1.0, 0.95, 1.0, 1.0])  # at the limit is not above it
    assert said == []
    feed(health, DEAD, [1.0])
    assert len(said) == 1


def test_a_run_away_policy_is_said(said: list[str]):
    health = RolloutHealth(patience=2, max_kl=1.0)
    feed(health, KL, [2.0, 3.5])
    assert len(said) == 1 and "KL 3.5 for 2 batches" in said[0] and "grpo.kl_weight" in said[0]
    feed(health, DEAD, [1.0, 1.0])  # each stall has a warning of its own
    assert len(said) == 2


def test_reads_what_a_module_logs(said: list[str]):
    class Module(L.LightningModule):
        def training_step(self, batch: torch.Tensor) -> torch.Tensor:
            self.log_dict({DEAD: 1.0, KL: 0.0})
            return self.weight.sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            self.weight = torch.nn.Parameter(torch.zeros(1))
            return torch.optim.SGD([self.weight], lr=0.1)

    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        callbacks=[RolloutHealth(patience=4)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), DataLoader(torch.ones(5, 1)))
    assert len(said) == 1 and "100%" in said[0]


def latest() -> Rollouts:
    """Three groups: all alike, one that holds the target, one without."""
    items = torch.tensor([[1, 1, 1], [3, 0, 3], [2, 1, 0]])
    log_probs = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, -2.0, -1.0], [-3.0, -1.0, -2.0]])
    histories = torch.tensor([[-1, 0], [1, 2], [-1, -1]])
    rollouts = Rollouts.of_items(items, torch.tensor([0, 0, 3]), log_probs, histories)
    codes = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    reward = total_reward(rollouts, RewardContext(codes), {"hit": 1.0, "prefix": 0.5})
    advantages = group_advantages(reward.total)
    return replace(rollouts, rewards=reward.total, terms=reward.terms, advantages=advantages)


def write(samples: RolloutSamples, batches: int, rank: int = 0) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=rank == 0, global_step=7, loggers=[])
    module: Any = SimpleNamespace(latest=latest())
    for batch_idx in range(batches):
        samples.on_train_batch_end(trainer, module, None, None, batch_idx)


def test_a_group_with_the_target_and_one_without_are_told(tmp_path: Path):
    path = tmp_path / "groups.jsonl"
    write(RolloutSamples(path, ITEMS, TITLES, INTERESTS), 1)
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["step"] == 7
    assert [each["item"] for each in first["history"]] == ["b", "c"]
    assert first["target"] == {"item": "a", "title": "Pan", "interests": "cooking for two"}
    lid, pan = first["rollouts"]  # the surest first, each item once
    assert (lid["item"], lid["times"], lid["hit"], lid["interests"]) == ("d", 2, False, "cooking for two")
    assert (pan["item"], pan["times"], pan["hit"], pan["reward"]) == ("a", 1, True, 1.5)
    assert pan["terms"] == {"hit": 1.0, "prefix": 0.5} and pan["advantage"] > 0 > lid["advantage"]
    assert second["history"] == [] and second["target"]["item"] == "d"
    assert [each["item"] for each in second["rollouts"]] == ["b", "a", "c"]


def test_every_so_many_batches_on_one_rank(tmp_path: Path):
    path = tmp_path / "groups.jsonl"
    write(RolloutSamples(path, ITEMS, TITLES, INTERESTS, every=3), 7, rank=1)
    assert not path.exists()
    write(RolloutSamples(path, ITEMS, TITLES, INTERESTS, every=3), 7)
    assert len(path.read_text().splitlines()) == 2 * 3
    write(RolloutSamples(path, ITEMS, TITLES, INTERESTS, every=3), 1)  # a resumed run continues behind
    assert len(path.read_text().splitlines()) == 2 * 4


def test_weights_and_biases_gets_a_table_of_plain_words(tmp_path: Path):
    logger = WandbLogger.__new__(WandbLogger)
    tables: list[Any] = []
    logger.log_table = lambda key, columns, data: tables.append((key, columns, data))  # type: ignore[method-assign]
    trainer: Any = SimpleNamespace(is_global_zero=True, global_step=7, loggers=[logger])
    module: Any = SimpleNamespace(latest=latest())
    samples = RolloutSamples(tmp_path / "groups.jsonl", ITEMS, TITLES, INTERESTS)
    samples.on_train_batch_end(trainer, module, None, None, 0)
    ((key, columns, rows),) = tables
    assert key == "rollout/groups" and all(len(row) == len(columns) for row in rows) and len(rows) == 2 + 3
    first = dict(zip(columns, rows[0], strict=True))
    assert first["history"] == "<script>alert(1)</script> → c" and first["target"] == "Pan"
    assert (first["rolled out"], first["times"], first["hit"]) == ("Lid", 2, False)
    assert json.loads(first["terms"]) == {"hit": 0.0, "prefix": 0.0}
