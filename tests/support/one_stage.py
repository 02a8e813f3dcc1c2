"""A program that trains one stage of a made-up experiment under tracking: FOLDER END [key=value …].

END is `well`, `error` (training fails), `interrupt` (Ctrl-C in training), `kill` (in the middle of training) or
`unopened` (W&B cannot be opened when the first training begins, and can when it has ended).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

from dig.config import load_config
from dig.engine.artifacts import ArtifactStore
from dig.engine.console import enable_progress, lines_to_console
from dig.engine.stage import StageContext, global_rank
from dig.engine.training import Plan, fit
from dig.tracking import Tracking


class Counter(lightning.LightningModule):
    """Its loss is the step, its validation the step's hundredth."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.end = end

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        if self.global_step == 5:
            if self.end == "error":
                raise ValueError("it went wrong")
            if self.end == "interrupt":
                raise KeyboardInterrupt
            if self.end == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        self.log("train/loss", float(self.global_step))
        return -self.weight

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        self.log("valid/ndcg@10", self.global_step / 100)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Nothing(lightning.LightningDataModule):
    """Two batches an epoch."""

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.zeros(2)))

    val_dataloader = train_dataloader


def _fail_once() -> None:
    import wandb

    opens = wandb.init

    def broken(**settings: object) -> object:
        wandb.init = opens
        raise TimeoutError("W&B's process did not start")

    wandb.init = broken


def main(folder: Path, end: str, overrides: list[str]) -> None:
    """Trains the stages `sft` and `grpo`, the second only where the first ends well."""
    enable_progress(False)
    if end == "unopened":
        _fail_once()
    config = load_config("quickstart", ["trainer.accelerator=cpu", "trainer.log_every_n_steps=1", *overrides])
    run = folder / "run"
    with Tracking(config, run, global_rank()) as tracking:
        for stage, needs in (("sft", ()), ("grpo", ("sft",))):
            with tracking.stage(stage, needs) as tracked:
                work = folder / f"{stage}.work"
                context = StageContext(config, {}, ArtifactStore(folder), run, tracked)
                fit(Plan(stage, {"a": 1}, 4, ranked=True), Counter(end), Nothing(), context, work)
                tracked.built(work, cached=False)


if __name__ == "__main__":
    with lines_to_console():
        main(Path(sys.argv[1]).absolute(), sys.argv[2], sys.argv[3:])
