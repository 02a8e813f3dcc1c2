"""Samples per second by a clock that the test holds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from callbacks import monitoring
from callbacks.monitoring import Throughput


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(monitoring, "time", clock)
    return clock


class Slow(L.LightningModule):
    """Takes two seconds per batch, ten for the first, and a hundred for validation."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.clock.now += 2.0 if self.trainer.global_step else 10.0
        return (self.weight * batch).sum()

    def validation_step(self, batch: torch.Tensor) -> None:
        self.clock.now += 100.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_first_batch_and_validation_are_left_out(clock: Clock):
    speed = Throughput()
    assert speed.samples_per_second is None
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        callbacks=[speed],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Slow(clock), DataLoader(torch.ones(8, 1), batch_size=3), DataLoader(torch.ones(2, 1)))
    # batches of 3, 3, 2 in each epoch; the very first is not counted
    assert speed.samples_per_second == (3 + 2 + 8) / (5 * 2.0)
    assert trainer.callback_metrics["train/samples_per_second"] == pytest.approx(1.3)


def test_batches_of_tokens_count_rows_on_all_ranks(clock: Clock):
    speed, batch = Throughput(), SimpleNamespace(input_ids=torch.zeros(5, 7))
    trainer: Any = SimpleNamespace(global_step=1, world_size=4)
    speed.on_train_batch_start(trainer, None, batch, 0)  # type: ignore[arg-type]
    clock.now = 2.0
    speed.on_train_batch_end(trainer, None, None, batch, 0)  # type: ignore[arg-type]
    assert speed.samples_per_second == 5 * 4 / 2.0
