"""A run that is killed anywhere and resumed ends exactly as an undisturbed one; a failed save keeps the old file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from callbacks import resume as resume_module
from callbacks.resume import AtomicCheckpointIO, ResumeCheckpoint, StepSeed, configuration_in, differing_key
from datamodules.loading import EpochBatchSampler, ResumableLoader

BATCHES, EPOCHS = 5, 3


class Points(Dataset):
    def __getitem__(self, index: list[int]) -> torch.Tensor:
        return torch.tensor(index).float().view(-1, 1).expand(-1, 4) / 10


class Noisy(L.LightningModule):
    """Dropout, an optimiser with moments and a schedule: everything that a resume has to restore."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
        self.seen: list[tuple[int, float]] = []  # (step, validation)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.body(batch) - batch.sum(dim=1, keepdim=True)).square().mean()

    def validation_step(self, batch: torch.Tensor) -> None:
        self.seen.append((self.trainer.global_step, self.body(batch).sum().item()))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Kill(L.Callback):
    """Stops the run at its n-th batch, as a signal would: no hook for exceptions saves anything."""

    def __init__(self, at: int) -> None:
        self.left = at

    def on_train_batch_start(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("killed")


def fit(
    file: Path, kill_at: int | None = None, workers: int = 0, every: int = 1, **settings: Any
) -> tuple[Noisy, L.Trainer]:
    module = Noisy()
    train = ResumableLoader(Points(), EpochBatchSampler(3 * BATCHES, 3, seed=1), workers)
    valid = ResumableLoader(Points(), EpochBatchSampler(4, 2, seed=1, shuffle=False))
    callbacks = [StepSeed(5), ResumeCheckpoint(file, every, {"key": 1})]
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        callbacks=callbacks if kill_at is None else [Kill(kill_at), *callbacks],
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
    )
    checkpoint = file if file.is_file() else None
    trainer.fit(module, train, valid, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return module, trainer


PER_EPOCH = {"check_val_every_n_epoch": 1}
EVERY_TWO = {"val_check_interval": 2, "check_val_every_n_epoch": None}
EVERY_THREE = {"val_check_interval": 3, "check_val_every_n_epoch": None}


@pytest.mark.parametrize("validation", [PER_EPOCH, EVERY_TWO, EVERY_THREE], ids=["epoch", "two", "three"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, validation: dict, accumulate: int):
    settings = {**validation, "accumulate_grad_batches": accumulate}
    whole, trainer = fit(tmp_path / "whole.ckpt", **settings)
    assert len(whole.seen) >= 3 * 2
    for kill_at in range(2, BATCHES * EPOCHS):
        file = tmp_path / f"{kill_at}.ckpt"
        with pytest.raises(RuntimeError, match="killed"):
            fit(file, kill_at, **settings)
        saved = torch.load(file, weights_only=True)["global_step"] if file.is_file() else 0
        resumed, again = fit(file, **settings)
        assert again.global_step == trainer.global_step
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), f"killed at batch {kill_at}, saved at {saved}"
        assert resumed.seen == [pair for pair in whole.seen if pair[0] >= saved], f"killed at batch {kill_at}"


def test_a_killed_run_with_workers_goes_on_too(tmp_path: Path):
    whole, _ = fit(tmp_path / "whole.ckpt", **PER_EPOCH)
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path / "killed.ckpt", 8, workers=2, **PER_EPOCH)
    resumed, _ = fit(tmp_path / "killed.ckpt", workers=2, **PER_EPOCH)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_saves_come_every_so_many_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps: list[int] = []
    monkeypatch.setattr(L.Trainer, "save_checkpoint", lambda self, path: steps.append(self.global_step))
    fit(tmp_path / "never.ckpt", every=4, **PER_EPOCH)
    assert steps == [4, 8, 12]
    steps.clear()
    fit(tmp_path / "never.ckpt", every=5, **PER_EPOCH)
    assert steps == [6, 11]  # not at the end of an epoch, but right after it


def test_saves_take_no_more_than_their_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A clock of its own: a batch takes a second, a save ten."""
    clock, steps = [0.0], []

    class Clock(L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            clock[0] += 1.0

    def save(self: L.Trainer, path: Path) -> None:
        steps.append(self.global_step)
        clock[0] += 10.0

    monkeypatch.setattr(resume_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(L.Trainer, "save_checkpoint", save)
    callbacks = [Clock(), ResumeCheckpoint(tmp_path / "never.ckpt", 2, {}, share=0.5)]
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Noisy(), ResumableLoader(Points(), EpochBatchSampler(60, 1, seed=1)))
    assert steps == [2, 22, 42]  # twice the ten seconds, at a second a step


def test_the_checkpoint_knows_its_configuration(tmp_path: Path):
    fit(tmp_path / "a.ckpt", **PER_EPOCH)
    assert configuration_in(tmp_path / "a.ckpt") == {"key": 1}
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    assert configuration_in(tmp_path / "foreign.ckpt") is None


def test_a_failed_save_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    io, file = AtomicCheckpointIO(), tmp_path / "deep" / "model.ckpt"
    io.save_checkpoint({"step": 1}, file)

    def half(checkpoint: dict, stream: Any) -> None:
        stream.write(b"half of a checkpoint")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(resume_module.torch, "save", half)
        with pytest.raises(OSError, match="no space"):
            io.save_checkpoint({"step": 2}, file)
    assert torch.load(file, weights_only=True) == {"step": 1}
    assert [path.name for path in file.parent.iterdir()] == ["model.ckpt"]  # and no debris
    io.save_checkpoint({"step": 3}, file)
    assert io.load_checkpoint(file) == {"step": 3}


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({"a": 1, "b": {"c": [1, 2]}}, {"a": 1, "b": {"c": [1, 2]}}, None),
        ({"b": {"c": 2, "d": 0}}, {"b": {"c": 1, "d": 9}}, "b.c is 1 there and 2 here"),
        ({"a": 1}, {"a": 1, "b": 5}, "b is 5 there and None here"),
        ({"a": 1, "b": 5}, {"a": 1}, "b is None there and 5 here"),
        ({"a": {"b": 1}}, {"a": 3}, "a is 3 there and {'b': 1} here"),
        ({"a": {"b": 1}}, {}, "a is None there and {'b': 1} here"),
    ],
)
def test_the_first_differing_key_is_named(ours: dict, theirs: dict, expected: str | None):
    assert differing_key(ours, theirs) == expected


class Draw(L.Callback):
    """Notes what dropout would draw at each batch, after some disturbance of the global generator."""

    def __init__(self, disturbance: int) -> None:
        self.disturbance = disturbance
        self.drawn: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.drawn.append(torch.rand(1).item())
        torch.rand(self.disturbance)


def draws(disturbance: int, seed: int = 5, accumulate: int = 1) -> list[float]:
    draw = Draw(disturbance)
    torch.manual_seed(disturbance)
    np.random.default_rng(disturbance)
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[StepSeed(seed), draw],
        enable_model_summary=False,
        accumulate_grad_batches=accumulate,
    )
    trainer.fit(Noisy(), ResumableLoader(Points(), EpochBatchSampler(12, 3, seed=1)))
    return draw.drawn


@pytest.mark.parametrize("accumulate", [1, 2])
def test_randomness_depends_on_seed_and_batch_alone(accumulate: int):
    first = draws(3, accumulate=accumulate)
    assert first == draws(17, accumulate=accumulate)
    assert len(set(first)) == 8  # every batch has its own, also those whose gradients are summed
    assert not set(first) & set(draws(3, seed=6, accumulate=accumulate))


@pytest.mark.parametrize("seed", [0, 42, 20_261_129, 2**32 - 1])
def test_any_seed_seeds_and_small_ones_as_they_always_did(seed: int) -> None:
    """Entry 17, a sibling: torch takes 64 bits, and the seed of a step is the experiment's times four billion."""
    trainer = SimpleNamespace(accumulate_grad_batches=1, global_step=7, global_rank=1)
    StepSeed(seed).on_train_batch_start(cast(L.Trainer, trainer), cast(L.LightningModule, None), None, 0)
    drawn = torch.rand(3)
    torch.manual_seed((((seed * 1_000_003 + 7) * 4099 + 1) * 1009) % 2**64)
    assert torch.equal(drawn, torch.rand(3))
