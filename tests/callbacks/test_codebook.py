"""The collapse warning: in its epoch, once a level, in words."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from callbacks import guards
from callbacks.guards import CodebookHealth


class Scripted(L.LightningModule):
    """Logs given usages, an epoch after the other, as RQVAEModule does."""

    def __init__(self, usages: list[tuple[float, float]]) -> None:
        super().__init__()
        self.usages = usages
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.weight * batch).sum()

    def on_train_batch_end(self, outputs: object, batch: torch.Tensor, batch_idx: int) -> None:
        if self.trainer.is_last_batch:
            first, second = self.usages[self.current_epoch]
            self.log_dict(
                {"codebook/batch_usage_1": first, "codebook/batch_usage_2": second}, on_step=False, on_epoch=True
            )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def warnings_of(monkeypatch: pytest.MonkeyPatch, usages: list[tuple[float, float]], callback: CodebookHealth) -> list:
    module, said = Scripted(usages), []
    monkeypatch.setattr(guards, "warn", lambda line: said.append((module.current_epoch, line)))
    trainer = L.Trainer(
        max_epochs=len(usages),
        accelerator="cpu",
        logger=False,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(torch.ones(4, 1), batch_size=2))
    return said


def test_warns_in_the_epoch_of_the_collapse_and_once(monkeypatch: pytest.MonkeyPatch):
    said = warnings_of(
        monkeypatch, [(1.0, 1.0), (0.9, 0.9), (0.91, 0.41), (0.9, 0.2), (0.3, 0.1)], CodebookHealth(min_usage=0.8)
    )
    assert [epoch for epoch, _ in said] == [2, 4]
    assert "epoch 3" in said[0][1] and "41%" in said[0][1] and "level 2" in said[0][1]
    assert "epoch 5" in said[1][1] and "30%" in said[1][1] and "level 1" in said[1][1]


def test_health_is_not_disturbed(monkeypatch: pytest.MonkeyPatch):
    assert warnings_of(monkeypatch, [(1.0, 0.95), (0.8, 0.9)], CodebookHealth(min_usage=0.8)) == []


def test_low_usage_that_rises_is_no_collapse(monkeypatch: pytest.MonkeyPatch):
    assert warnings_of(monkeypatch, [(0.5, 0.6), (0.6, 0.55), (0.7, 0.9)], CodebookHealth(min_usage=0.8)) == []


def test_a_collapse_in_the_first_epoch_is_no_secret(monkeypatch: pytest.MonkeyPatch):
    assert [epoch for epoch, _ in warnings_of(monkeypatch, [(0.1, 1.0)], CodebookHealth())] == [0]


def test_a_fall_that_restarts_mend_is_no_collapse(monkeypatch: pytest.MonkeyPatch):
    # two steps per epoch: a code that died in the second epoch is restarted in the fourth
    mended = [(1.0, 1.0), (0.6, 1.0), (0.5, 1.0), (0.9, 1.0), (1.0, 1.0)]
    assert warnings_of(monkeypatch, mended, CodebookHealth(restart_after=6)) == []
    for_good = [(1.0, 1.0), (0.6, 1.0), (0.5, 1.0), (0.5, 1.0), (0.5, 1.0)]
    assert [epoch for epoch, _ in warnings_of(monkeypatch, for_good, CodebookHealth(restart_after=6))] == [3]


def test_fewer_items_than_codes_are_no_collapse(monkeypatch: pytest.MonkeyPatch):
    said = warnings_of(monkeypatch, [(0.3, 0.3), (0.29, 0.1)], CodebookHealth(attainable=[0.3, 0.3]))
    assert [line.split("level ")[1][0] for _, line in said] == ["2"]


def test_a_resumed_run_does_not_repeat_the_warning(monkeypatch: pytest.MonkeyPatch):
    first, second = CodebookHealth(), CodebookHealth()
    assert len(warnings_of(monkeypatch, [(1.0, 1.0), (0.7, 1.0), (0.2, 1.0)], first)) == 1
    second.load_state_dict(first.state_dict())
    assert warnings_of(monkeypatch, [(0.1, 1.0)], second) == []
