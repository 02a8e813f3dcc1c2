"""The stall warnings of GRPO: after enough bad batches in a row, in words, once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from callbacks import rollouts
from callbacks.rollouts import RolloutHealth

DEAD, KL = "rollout/dead_groups", "train/kl"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(rollouts, "warn", lines.append)
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
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[RolloutHealth(patience=4)],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(torch.ones(5, 1)))
    assert len(said) == 1 and "100%" in said[0]
