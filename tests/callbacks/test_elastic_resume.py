"""Training continues with another batch of all ranks at the same share of its data and of its schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import Dataset

from callbacks.resume import AtomicCheckpointIO, ElasticResume, ResumeCheckpoint
from datamodules.loading import EpochBatchSampler, ResumableLoader
from dig.engine.console import console

SAMPLES, EPOCHS = 48, 3


class Numbers(Dataset):
    def __getitem__(self, index: list[int]) -> torch.Tensor:
        return torch.tensor(index)


class Data(L.LightningDataModule):
    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch

    def train_dataloader(self) -> ResumableLoader:
        return ResumableLoader(Numbers(), EpochBatchSampler(SAMPLES, self.batch, seed=1))


class Notes(L.LightningModule):
    """Notes which samples come at which step, and the learning rate there; ends as a kill would."""

    def __init__(self, steps: int, kill_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps, self.kill_at = steps, kill_at
        self.seen: list[tuple[int, list[int]]] = []
        self.rates: list[float] = []

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        if self.global_step == self.kill_at:
            raise RuntimeError("killed")
        self.seen.append((self.current_epoch, batch.tolist()))
        self.rates.append(self.lr_schedulers().get_last_lr()[0])
        return self.weight * batch.float().mean()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(file: Path, batch: int, kill_at: int | None = None) -> tuple[Notes, str]:
    module = Notes(SAMPLES // batch * EPOCHS, kill_at)
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[ElasticResume("sft"), ResumeCheckpoint(file, 1, {})],
        plugins=[AtomicCheckpointIO()],
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    known = file if file.is_file() else None
    with console.capture() as captured:
        trainer.fit(module, datamodule=Data(batch), ckpt_path=known, weights_only=True if known else None)
    return module, captured.get()


@pytest.mark.parametrize(("before", "now"), [(4, 8), (8, 4), (4, 4)])
def test_an_epoch_goes_on_at_the_same_share_of_its_samples(before: int, now: int, tmp_path: Path):
    file = tmp_path / "resume.ckpt"
    kill_at = SAMPLES // before + SAMPLES // before // 2 + 1  # one step after the middle of the second epoch was saved
    with pytest.raises(RuntimeError, match="killed"):
        fit(file, before, kill_at)
    saved = torch.load(file, weights_only=True)["global_step"]
    module, said = fit(file, now)
    done = saved * before // now * now  # samples, to a whole batch of today's
    whole = [(epoch, sample) for epoch in range(EPOCHS) for sample in order(epoch)]
    assert [(epoch, sample) for epoch, batch in module.seen for sample in batch] == whole[done:]
    assert module.trainer.global_step == SAMPLES // now * EPOCHS
    share = 1 - done / (SAMPLES * EPOCHS)
    assert module.rates[1] == pytest.approx(share - now / (SAMPLES * EPOCHS))
    if before == now:
        assert said == ""
    else:
        assert f"of 1 ranks with {before} samples per batch of all, here are 1 with {now}" in said
        assert "the order of the data changes" in said


def order(epoch: int) -> list[int]:
    sampler = EpochBatchSampler(SAMPLES, SAMPLES, seed=1)
    sampler.set_epoch(epoch)
    return next(iter(sampler))


def test_a_checkpoint_without_the_note_is_taken_as_it_is(tmp_path: Path):
    file = tmp_path / "resume.ckpt"
    with pytest.raises(RuntimeError, match="killed"):
        fit(file, 4, 5)
    content = torch.load(file, weights_only=True)
    del content["dig_samples_a_batch"]
    torch.save(content, file)
    module, said = fit(file, 4)
    assert said == "" and module.trainer.global_step == SAMPLES // 4 * EPOCHS
