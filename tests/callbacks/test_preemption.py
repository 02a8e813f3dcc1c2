"""A signal in training is saved at the next batch that can be, and the resumed run equals an undisturbed one."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import Dataset

from callbacks.resume import AtomicCheckpointIO, Preemption, ResumeCheckpoint, StepSeed
from datamodules.loading import EpochBatchSampler, ResumableLoader
from dig.engine.signals import Preempted, current_watch, watched
from dig.engine.strategy import interruptible

BATCHES, EPOCHS = 5, 3


class Points(Dataset):
    def __getitem__(self, index: list[int]) -> torch.Tensor:
        return torch.tensor(index).float().view(-1, 1).expand(-1, 4) / 10


class Line(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.body(batch) - batch.sum(dim=1, keepdim=True)).square().mean()

    def validation_step(self, batch: torch.Tensor) -> None:
        self.body(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.05)


class Signal(L.Callback):
    """Sends this process a signal at a batch, in training or in the validation after it."""

    def __init__(self, at: int, number: int, in_validation: bool = False) -> None:
        self.at, self.number, self.in_validation = at, number, in_validation

    def _send(self, trainer: L.Trainer) -> None:
        if trainer.fit_loop.total_batch_idx == self.at:
            os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if not self.in_validation:
            self._send(trainer)

    def on_validation_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self.in_validation:
            self._send(trainer)


def fit(file: Path, *callbacks: L.Callback, **settings: Any) -> tuple[dict[str, torch.Tensor], int]:
    module = Line()
    loader = ResumableLoader(Points(), EpochBatchSampler(20, 4, seed=3))
    valid = ResumableLoader(Points(), EpochBatchSampler(4, 4, seed=3, shuffle=False))
    resume = ResumeCheckpoint(file, 1000, {})
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        plugins=[AtomicCheckpointIO()],
        callbacks=[StepSeed(1), *callbacks, resume, Preemption("sft", resume)],
        **settings,
    )
    start = file if file.exists() else None
    trainer.fit(module, loader, valid, ckpt_path=start, weights_only=True if start else None)
    return module.state_dict(), trainer.global_step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(
    ("at", "saved", "settings"),
    [
        (1, 2, {}),
        (4, 6, {}),  # the last batch of an epoch restores in part: the next one is taken
        (
            5,
            3,
            {"accumulate_grad_batches": 2, "val_check_interval": 5},
        ),  # between two batches whose gradients are summed
    ],
)
def test_it_is_saved_and_goes_on(
    tmp_path: Path, number: int, at: int, saved: int, settings: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, steps = fit(tmp_path / "none.ckpt", **settings)
    file = tmp_path / "resume.ckpt"
    with pytest.raises(Preempted), watched(60, may_requeue=True):
        fit(file, Signal(at, number), **settings)
    name = signal.Signals(number).name
    told = capsys.readouterr().out
    step = torch.load(file, weights_only=True)["global_step"]
    assert told.splitlines()[-1] == f"sft: saved at step {step} ({name}); the same command resumes from here"
    if not settings:
        assert step == saved
    weights, count = fit(file, **settings)
    assert count == steps
    for key, value in expected.items():
        assert torch.equal(weights[key], value), key


@pytest.mark.parametrize(("at", "saved", "in_validation"), [(1, 2, False), (4, 6, True)])
def test_ctrl_c_is_saved_too_and_stays_ctrl_c(
    tmp_path: Path, at: int, saved: int, in_validation: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entry 8: an interruption costs the step that it comes in, not all since the last checkpoint."""
    expected, _ = fit(tmp_path / "none.ckpt")
    file = tmp_path / "resume.ckpt"
    with pytest.raises(KeyboardInterrupt), watched(60, may_requeue=True), interruptible():
        fit(file, Signal(at, signal.SIGINT, in_validation))
    assert torch.load(file, weights_only=True)["global_step"] == saved
    assert f"sft: saved at step {saved} (Ctrl-C)" in capsys.readouterr().out
    weights, _ = fit(file)
    assert all(torch.equal(weights[key], value) for key, value in expected.items())


def test_a_signal_in_a_validation_waits_for_the_batch_after_it(tmp_path: Path) -> None:
    expected, _ = fit(tmp_path / "none.ckpt")
    file = tmp_path / "resume.ckpt"
    with pytest.raises(Preempted), watched(60, may_requeue=True):
        fit(file, Signal(4, signal.SIGTERM, in_validation=True))
    assert torch.load(file, weights_only=True)["global_step"] == 6
    weights, _ = fit(file)
    assert all(torch.equal(weights[key], value) for key, value in expected.items())


def test_a_signal_at_the_very_end_stops_before_what_comes_next(tmp_path: Path) -> None:
    with pytest.raises(Preempted, match="the last checkpoint stays"), watched(60, may_requeue=True):
        fit(tmp_path / "resume.ckpt", Signal(EPOCHS * BATCHES - 1, signal.SIGTERM))


def test_an_error_in_training_stays_an_error(tmp_path: Path) -> None:
    class Broken(L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), watched(60, may_requeue=True):
        fit(tmp_path / "resume.ckpt", Broken())


def test_lightning_does_not_keep_the_signals(tmp_path: Path) -> None:
    class Look(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[Any] = []
    with watched(60, may_requeue=True) as watch:
        fit(tmp_path / "resume.ckpt", Look())
        assert seen == [watch._handle] * (EPOCHS * BATCHES)
        assert current_watch() is watch


def test_nobody_watches_without_an_entry_point(tmp_path: Path) -> None:
    assert fit(tmp_path / "resume.ckpt")[1] == EPOCHS * BATCHES and not (tmp_path / "resume.ckpt").exists()
